// One repository: identity, signed commit, Merkle search tree, encoding, proofs, and the APIs over it.
// A check leaves what later ones need in `subject`; when it failed, those fail with it. The repository may be written
// meanwhile: what differs from the export must then be newer than it, and as well proven.
import { createHash } from 'node:crypto'
import * as cbor from '@atcute/cbor'
import { AtpAgent } from '@atproto/api'
import { verifySignature } from '@atproto/crypto'
import { parseToAtprotoDocument } from '@atproto/identity'
import {
  MST, MemoryBlockstore, readCar, readCarWithRoot, verifyProofs, verifyRecords, verifyRepo, verifyRepoCar,
} from '@atproto/repo'
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
  ['repo-since-beginning', repoSinceBeginning],
]
const DAG_CBOR = 0x71
const RAW = 0x55
const ABSENT = { collection: 'io.atcr.none', rkey: 'absent' }
const PROOFS = 12
// How often a commit may be replaced between being named and being asked for.
const TRIES = 50
const FIRST_REV = '2222222222222'

const sha256 = (bytes) => createHash('sha256').update(bytes).digest()
const same = (left, right) => Buffer.from(left).equals(Buffer.from(right))
const path = ({ collection, rkey }) => `${collection}/${rkey}`
const byPath = (records) => new Map(records.map((record) => [path(record), record.cid.toString()]))

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
export async function exported({ query, did, key }, parameters = {}) {
  const answer = await query('com.atproto.sync.getRepo', { did, ...parameters })
  must(answer.status === 200 && answer.type.startsWith('application/vnd.ipld.car'), `${answer.status} ${answer.type}`)
  const verified = await verifyRepoCar(answer.bytes, did, key)
  const { root, blocks } = await readCarWithRoot(answer.bytes)
  const records = verified.creates.map(({ collection, rkey, cid }) => ({ collection, rkey, cid }))
  const { rev, data } = cbor.decode(blocks.get(root))
  return { root, blocks, records, rev, data: data.$link }
}

async function repoCar(subject) {
  const { root, blocks, records } = await exported(subject)
  Object.assign(subject, { root, blocks, records })
  for (const { collection, rkey } of records) {
    must(isValidNsid(collection) && isValidRecordKey(rkey), `${collection}/${rkey}`)
  }
  return `${records.length} records in ${blocks.size} blocks`
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

// The newest commit as it is named, and as its block says.
async function latestCommit(subject) {
  const { query, did, root, commit } = subject
  const { latest, named } = await newestBlock(subject)
  must(named.did === did && named.rev === latest.rev, `${latest.cid} is of ${named.did} at ${named.rev}`)
  const { sig, ...unsigned } = named
  must(await verifySignature(subject.key, cbor.encode(unsigned), cbor.fromBytes(sig)), 'bad signature')
  must(latest.rev >= commit.rev, `${latest.rev} is older than the export`)
  if (latest.rev === commit.rev) must(latest.cid === root.toString(), `${latest.cid}, the export has ${root}`)
  const status = (await query('com.atproto.sync.getRepoStatus', { did })).json()
  must(status.did === did && status.active === true && status.rev >= latest.rev, JSON.stringify(status))
  if (status.rev !== latest.rev) must((await subject.latest()).rev >= status.rev, `status ${status.rev}`)
}

// Asks for the block of the newest commit, again when it was replaced meanwhile.
async function newestBlock(subject) {
  let latest = await subject.latest()
  for (let tries = 1; ; tries++) {
    const answer = await subject.query('com.atproto.sync.getBlocks', { did: subject.did, cids: latest.cid })
    if (answer.status === 200) {
      const { blocks } = await readCar(answer.bytes)
      const block = blocks.get(CID.parse(latest.cid))
      must(block && blocks.size === 1, `${blocks.size} blocks for one`)
      return { latest, named: cbor.decode(block) }
    }
    const newer = await subject.latest()
    must(newer.rev > latest.rev && tries < TRIES, `${latest.cid}: ${answer.status}`)
    latest = newer
  }
}

async function recordProofs(subject) {
  const { query, did, key, records } = subject
  const step = Math.ceil(records.length / PROOFS)
  const some = records.filter((_, index) => index % step === 0)
  for (const record of some) {
    const { collection, rkey } = record
    const answer = await query('com.atproto.sync.getRecord', { did, collection, rkey })
    must(answer.status === 200, `${path(record)}: ${answer.status}`)
    const proves = async (cid) =>
      (await verifyProofs(answer.bytes, [{ collection, rkey, cid }], did, key)).verified.length === 1
    const held = (await verifyRecords(answer.bytes, did, key)).some((other) => path(other) === path(record))
    if (await proves(record.cid)) {
      must(held, 'the record is not in it')
      continue
    }
    const { root, blocks } = await readCarWithRoot(answer.bytes)
    const newer = cbor.decode(blocks.get(root))
    must(newer.rev > subject.commit.rev, `no proof of ${path(record)}`)
    const cid = await MST.load(new MemoryBlockstore(blocks), CID.parse(newer.data.$link)).get(path(record))
    must((await proves(cid)) && held === (cid !== null), `no newer proof of ${path(record)}`)
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

// What is listed is what is exported: all of it, or in a repository that is written, all that is the same before and
// after.
async function recordsAgree(subject) {
  const { pds, did } = subject
  const agent = new AtpAgent({ service: pds })
  const described = new Set((await agent.com.atproto.repo.describeRepo({ repo: did })).data.collections)
  const before = byPath(subject.records)
  const collections = new Set([...subject.records.map(({ collection }) => collection), ...described])
  const listed = new Map()
  for (const collection of collections) await list(agent, did, collection, listed)
  const again = await exported(subject)
  const after = byPath(again.records)
  const stays = [...before].filter(([path, cid]) => after.get(path) === cid)
  if (again.rev === subject.commit.rev) {
    must(stays.length === before.size, 'two exports of one revision differ')
    must(listed.size === before.size, `${listed.size} records listed, ${before.size} exported`)
    const empty = [...described].filter((one) => !subject.records.some(({ collection }) => collection === one))
    must(empty.length === 0, `it describes ${empty}`)
  }
  for (const [path, cid] of stays) {
    must(listed.get(path) === cid, `${path} is listed as ${listed.get(path)}`)
    must(described.has(path.split('/')[0]), `it does not describe the collection of ${path}`)
  }
  return again.rev === subject.commit.rev ? `${stays.length} records` : `${stays.length} records that stayed`
}

async function list(agent, repo, collection, found) {
  let cursor
  do {
    const page = (await agent.com.atproto.repo.listRecords({ repo, collection, limit: 100, cursor })).data
    for (const { uri, cid } of page.records) {
      ensureValidAtUri(uri)
      found.set(uri.split('/').slice(-2).join('/'), cid)
    }
    must(page.cursor === undefined || page.cursor !== cursor, 'the cursor does not move')
    cursor = page.records.length ? page.cursor : undefined
  } while (cursor)
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

// Blocks by their names: some of those of the export that are still there, and none that is not asked for.
async function getBlocks({ query, did, records, blocks, commit, latest }) {
  const cids = [...new Set(records.map(({ cid }) => cid.toString()))].slice(0, PROOFS)
  const answer = await query('com.atproto.sync.getBlocks', { did, cids })
  if (answer.status !== 200) {
    must((await latest()).rev > commit.rev, `${answer.status} ${answer.json().message}`)
    return 'one of them was replaced'
  }
  const found = (await readCar(answer.bytes)).blocks
  must(found.size === cids.length, `${found.size} blocks for ${cids.length}`)
  for (const cid of cids) must(same(found.get(CID.parse(cid)), blocks.get(CID.parse(cid))), `${cid} differs`)
  return `${cids.length} blocks`
}

// What came after the export, together with the export, is a whole repository.
async function repoSince({ query, did, key, commit, root, blocks }) {
  const answer = await query('com.atproto.sync.getRepo', { did, since: commit.rev })
  must(answer.status === 200, answer.status)
  const { roots, blocks: newer } = await readCar(answer.bytes)
  for (const { cid, bytes } of newer.entries()) must(same(cid.multihash.digest, sha256(bytes)), `${cid} has other bytes`)
  if (roots.length === 0 || roots[0].equals(root)) {
    must(newer.size <= 1, `${newer.size} blocks though nothing came`)
    return 'nothing'
  }
  const verified = await verifyRepo(newer.addMap(blocks), roots[0], did, key)
  must(verified.commit.rev > commit.rev, `${verified.commit.rev} is not newer`)
  return `${answer.bytes.length} bytes`
}

async function repoSinceBeginning(subject) {
  const all = await exported(subject, { since: FIRST_REV })
  must(all.rev >= subject.commit.rev, `${all.rev} is older than the export`)
  if (all.rev !== subject.commit.rev) return
  must(all.records.length === subject.records.length, `${all.records.length} records`)
}
