// One repository: identity, signed commit, Merkle search tree, encoding, proofs, and the APIs over it.
// A check leaves what later ones need in `subject`; when it failed, those fail with it.
import { createHash } from 'node:crypto'
import * as cbor from '@atcute/cbor'
import { AtpAgent } from '@atproto/api'
import { parseToAtprotoDocument } from '@atproto/identity'
import { MST, MemoryBlockstore, readCarWithRoot, verifyProofs, verifyRecords, verifyRepoCar } from '@atproto/repo'
import { ensureValidAtUri, isValidNsid, isValidRecordKey, isValidTid } from '@atproto/syntax'
import { CID } from 'multiformats/cid'
import { must } from './must.mjs'

export const repoChecks = [
  ['did-document', didDocument],
  ['repo-car', repoCar],
  ['commit', commitFields],
  ['blocks-canonical', blocksCanonical],
  ['mst-rebuilt', mstRebuilt],
  ['latest-commit', latestCommit],
  ['record-proofs', recordProofs],
  ['absence-proof', absenceProof],
  ['records-agree', recordsAgree],
  ['blobs', blobs],
  ['get-blocks', getBlocks],
  ['repo-since', repoSince],
]
const DAG_CBOR = 0x71
const RAW = 0x55
const ABSENT = { collection: 'io.atcr.none', rkey: 'absent' }
const PROOFS = 12

const sha256 = (bytes) => createHash('sha256').update(bytes).digest()
const same = (left, right) => Buffer.from(left).equals(Buffer.from(right))

async function didDocument(subject) {
  const document = await subject.identities.did.resolve(subject.did, true)
  must(document, 'it does not resolve')
  const { did, signingKey, pds } = parseToAtprotoDocument(document)
  must(did === subject.did, `it is the document of ${did}`)
  must(signingKey, 'no #atproto key')
  must(new URL(pds).host === new URL(subject.home).host, `it names the PDS ${pds}`)
  subject.key = signingKey
}

// The reference package walks the whole export: signature, every node, every record.
async function repoCar(subject) {
  const answer = await subject.query('com.atproto.sync.getRepo', { did: subject.did })
  must(answer.status === 200 && answer.type.startsWith('application/vnd.ipld.car'), `${answer.status} ${answer.type}`)
  const verified = await verifyRepoCar(answer.bytes, subject.did, subject.key)
  const { root, blocks } = await readCarWithRoot(answer.bytes)
  subject.root = root
  subject.blocks = blocks
  subject.records = verified.creates.map(({ collection, rkey, cid }) => ({ collection, rkey, cid }))
  for (const { collection, rkey } of subject.records) {
    must(isValidNsid(collection) && isValidRecordKey(rkey), `${collection}/${rkey}`)
  }
  return `${subject.records.length} records in ${blocks.size} blocks`
}

async function commitFields(subject) {
  const commit = cbor.decode(subject.blocks.get(subject.root))
  must(commit.version === 3, `version ${commit.version}`)
  must(commit.did === subject.did, `did ${commit.did}`)
  must(isValidTid(commit.rev), `rev ${commit.rev}`)
  must('prev' in commit && commit.prev === null, 'prev must be present and null')
  must(cbor.fromBytes(commit.sig).length === 64, 'a signature has 64 bytes')
  subject.commit = commit
}

async function blocksCanonical({ blocks }) {
  for (const { cid, bytes } of blocks.entries()) {
    must(same(cid.multihash.digest, sha256(bytes)), `${cid} has other bytes`)
    if (cid.code === DAG_CBOR) must(same(cbor.encode(cbor.decode(bytes)), bytes), `${cid} is not canonical`)
  }
}

// A tree of the wrong shape can still be read; one built anew from its records cannot have the wrong shape.
async function mstRebuilt({ commit, records }) {
  let tree = await MST.create(new MemoryBlockstore())
  for (const { collection, rkey, cid } of records) tree = await tree.add(`${collection}/${rkey}`, cid)
  const pointer = (await tree.getPointer()).toString()
  must(pointer === commit.data.$link, `rebuilt ${pointer}, the commit says ${commit.data.$link}`)
}

async function latestCommit({ query, did, root, commit }) {
  const latest = (await query('com.atproto.sync.getLatestCommit', { did })).json()
  must(latest.cid === root.toString() && latest.rev === commit.rev, `latest commit ${JSON.stringify(latest)}`)
  const status = (await query('com.atproto.sync.getRepoStatus', { did })).json()
  must(status.did === did && status.active === true && status.rev === commit.rev, JSON.stringify(status))
}

async function recordProofs({ query, did, key, records }) {
  const step = Math.ceil(records.length / PROOFS)
  const some = records.filter((_, index) => index % step === 0)
  for (const { collection, rkey, cid } of some) {
    const answer = await query('com.atproto.sync.getRecord', { did, collection, rkey })
    must(answer.status === 200, `${collection}/${rkey}: ${answer.status}`)
    const proof = await verifyProofs(answer.bytes, [{ collection, rkey, cid }], did, key)
    must(proof.verified.length === 1, `no proof of ${collection}/${rkey}`)
    const found = await verifyRecords(answer.bytes, did, key)
    must(found.some((record) => record.collection === collection && record.rkey === rkey), 'the record is not in it')
  }
  return `${some.length} records`
}

async function absenceProof({ query, did, key }) {
  const answer = await query('com.atproto.sync.getRecord', { did, ...ABSENT })
  if (answer.status !== 200) {
    must(answer.json().error === 'RecordNotFound', `${answer.status}`)
    return 'RecordNotFound'
  }
  const proof = await verifyProofs(answer.bytes, [{ ...ABSENT, cid: null }], did, key)
  must(proof.verified.length === 1, 'no proof of absence')
}

async function recordsAgree({ pds, did, records }) {
  const agent = new AtpAgent({ service: pds })
  const collections = [...new Set(records.map(({ collection }) => collection))].sort()
  const described = (await agent.com.atproto.repo.describeRepo({ repo: did })).data.collections
  must(same(Buffer.from([...described].sort().join()), Buffer.from(collections.join())), `it describes ${described}`)
  for (const collection of collections) {
    const listed = await listAll(agent, did, collection)
    const exported = records.filter((record) => record.collection === collection)
    must(listed.size === exported.length, `${collection}: ${listed.size} listed, ${exported.length} exported`)
    for (const { rkey, cid } of exported) must(listed.get(rkey) === cid.toString(), `${collection}/${rkey} differs`)
  }
  return collections.join(', ')
}

async function listAll(agent, repo, collection) {
  const found = new Map()
  let cursor
  do {
    const page = (await agent.com.atproto.repo.listRecords({ repo, collection, limit: 100, cursor })).data
    for (const { uri, cid } of page.records) {
      ensureValidAtUri(uri)
      found.set(uri.split('/').pop(), cid)
    }
    must(page.cursor === undefined || page.cursor !== cursor, 'the cursor does not move')
    cursor = page.records.length ? page.cursor : undefined
  } while (cursor)
  return found
}

async function blobs({ query, did }) {
  const answer = await query('com.atproto.sync.listBlobs', { did })
  must(answer.status === 200, answer.status)
  const cids = answer.json().cids
  for (const name of cids) {
    const blob = await query('com.atproto.sync.getBlob', { did, cid: name })
    const cid = CID.parse(name)
    must(blob.status === 200, `${name}: ${blob.status}`)
    must(cid.code === RAW && same(cid.multihash.digest, sha256(blob.bytes)), `${name} has other bytes`)
  }
  return `${cids.length} blobs`
}

async function getBlocks({ query, did, root }) {
  const answer = await query('com.atproto.sync.getBlocks', { did, cids: root.toString() })
  must(answer.status === 200, answer.status)
  must(Buffer.from(answer.bytes).includes(Buffer.from(root.bytes)), 'the block is not in it')
}

async function repoSince({ query, did, commit }) {
  const answer = await query('com.atproto.sync.getRepo', { did, since: commit.rev })
  must(answer.status === 200, answer.status)
  return `${answer.bytes.length} bytes`
}
