// Shows that the judge can fail: a proxy in front of a PDS or a PLC directory that lies in one respect.
import http from 'node:http'
import * as cbor from '@atcute/cbor'
import * as links from '@atcute/cid'
import { Secp256k1Keypair } from '@atproto/crypto'
import { blocksToCarFile, readCarWithRoot } from '@atproto/repo'
import { CID } from 'multiformats/cid'
import { sha256 } from 'multiformats/hashes/sha2'
import { WebSocket, WebSocketServer } from 'ws'

const DAG_CBOR = 0x71
const DOCUMENT = /^\/did:plc:[a-z2-7]+$/
const EXPORT = /sync\.getRepo\?did=[^&]*$/
// Whom the documents of some lies name, so that what they signed is taken for the account's.
const usurper = await Secp256k1Keypair.create()

// A lie is told in answers (`path`, `answer`), or in the events of commits (`event`), or in frames of any kind (`frame`).
// `checks` are those that must notice it.
export const lies = {
  'server-did': { checks: ['describe-server'], path: /describeServer/, answer: json((it) => ({ ...it, did: 'none' })) },
  'repo-inactive': {
    checks: ['list-repos'],
    path: /listRepos\?/,
    answer: json((it) => ({ repos: it.repos.map((repo) => ({ ...repo, active: false })) })),
  },
  'repo-invented': { checks: ['unknown-repo'], path: /getRepoStatus\?did=did%3Aplc%3Aaaaa/, answer: () => status(200, '{}') },
  'handle-elsewhere': {
    checks: ['handle'],
    path: /resolveHandle/,
    answer: json(() => ({ did: 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa' })),
  },
  'document-pds': {
    checks: ['did-document'],
    path: DOCUMENT,
    answer: json((it) => ({
      ...it, service: it.service.map((one) => ({ ...one, serviceEndpoint: 'https://pds.example.com' })),
    })),
  },
  'document-key': { checks: ['repo-car'], path: DOCUMENT, answer: json(usurped) },
  'export-signature': { checks: ['repo-car'], path: EXPORT, answer: async (car) => (await forgeSignature(car)).car },
  'export-block': { checks: ['repo-car'], path: EXPORT, answer: flipEnd },
  'export-commit': { checks: ['commit'], ...signedByUsurper((commit) => ({ ...commit, rev: 'yesterday' })) },
  'export-encoding': { checks: ['blocks-canonical'], path: EXPORT, answer: addLooseBlock },
  'export-shape': { checks: ['mst-rebuilt'], ...signedByUsurper(flatten) },
  'latest-rev': {
    checks: ['latest-commit'],
    path: /getLatestCommit\?/,
    answer: json((it) => ({ ...it, rev: it.rev.slice(0, 12) + (it.rev.endsWith('2') ? '3' : '2') })),
  },
  'record-proof': { checks: ['record-proofs'], path: /sync\.getRecord\?(?!.*none)/, answer: flipEnd },
  'absence-proof': { checks: ['absence-proof'], path: /sync\.getRecord\?.*none/, answer: flipEnd },
  'record-unlisted': {
    checks: ['records-agree'],
    path: /listRecords\?/,
    answer: json((it) => ({ ...it, records: it.records.slice(1) })),
  },
  'collection-invented': {
    checks: ['records-agree'],
    path: /describeRepo\?/,
    answer: json((it) => ({ ...it, collections: [...it.collections, 'org.example.none'] })),
  },
  'blob-bytes': { checks: ['blobs'], path: /sync\.getBlob\?/, answer: (bytes) => flip(bytes, 1) },
  'block-bytes': { checks: ['get-blocks'], path: /sync\.getBlocks\?/, answer: flipEnd },
  'since-block': { checks: ['repo-since'], path: /sync\.getRepo\?.*since=3/, answer: addLooseBlock },
  'since-beginning': { checks: ['repo-since-beginning'], path: /sync\.getRepo\?.*since=2/, answer: flipEnd },
  'event-prev-data': strictly((body) => ({ ...body, prevData: body.commit })),
  'event-operation': strictly((body) => ({ ...body, ops: body.ops.slice(1) })),
  'event-since': strictly((body) => ({ ...body, since: '3aaaaaaaaaa2a' })),
  'event-rev': strictly((body) => ({ ...body, rev: '3zzzzzzzzzz2a' })),
  'event-seq': strictly((body) => ({ ...body, seq: 1 })),
  'event-tree': strictly((body) => without(body, (commit) => commit.data)),
  'event-record': strictly((body) => without(body, () => body.ops.find(({ cid }) => cid)?.cid)),
  'event-signature': {
    checks: ['firehose-strict', 'firehose-consumer'],
    event: async (body) => {
      const { cid, car } = await forgeSignature(cbor.fromBytes(body.blocks))
      return [{ ...body, commit: link(cid), blocks: cbor.toBytes(car) }]
    },
  },
  'event-lost': { checks: ['firehose-strict'], event: (body, nth) => (nth === 2 ? [] : [body]) },
  'event-twice': { checks: ['firehose-strict'], event: (body, nth) => (nth === 2 ? [body, body] : [body]) },
  'frame-text': { checks: ['firehose-strict'], frame: () => 'hello' },
  'future-reached': {
    checks: ['firehose-future-cursor'],
    frame: (frame) => {
      const [header] = cbor.decodeFirst(frame)
      return header.op === -1 ? Buffer.concat([cbor.encode({ op: 1, t: '#info' }), cbor.encode({ name: 'None' })]) : frame
    },
  },
}

function json(change) {
  return (bytes) => Buffer.from(JSON.stringify(change(JSON.parse(bytes.toString()))))
}

function status(code, text) {
  return { code, bytes: Buffer.from(text) }
}

function flip(bytes, at) {
  const copy = Buffer.from(bytes)
  copy[at] ^= 1
  return copy
}

function flipEnd(bytes) {
  return flip(bytes, bytes.length - 5)
}

function strictly(change) {
  return { checks: ['firehose-strict'], event: async (body) => [await change(body)] }
}

function link(cid) {
  return links.toCidLink(links.fromString(cid.toString()))
}

async function add(blocks, bytes) {
  const cid = CID.createV1(DAG_CBOR, await sha256.digest(bytes))
  blocks.set(cid, bytes)
  return cid
}

// A commit whose hash is right and whose signature is not.
async function forgeSignature(car) {
  const { root, blocks } = await readCarWithRoot(car)
  const commit = cbor.decode(blocks.get(root))
  const forged = cbor.encode({ ...commit, sig: cbor.toBytes(flip(cbor.fromBytes(commit.sig), 10)) })
  blocks.delete(root)
  const cid = await add(blocks, forged)
  return { cid, car: await blocksToCarFile(cid, blocks) }
}

// A block that belongs to nothing, with an integer that is longer than it needs to be.
async function addLooseBlock(car) {
  const { roots, blocks } = await readCarWithRoot(car).then(
    ({ root, blocks }) => ({ roots: [root], blocks }),
    () => ({ roots: [], blocks: undefined }),
  )
  if (!blocks) return Buffer.concat([car, Buffer.from([1, 0])])
  await add(blocks, Buffer.from([0xa1, 0x61, 0x6e, 0x18, 0x01]))
  await add(blocks, Buffer.from([0xa1, 0x61, 0x6e, 0x18, 0x02]))
  return blocksToCarFile(roots[0], blocks)
}

function usurped(document) {
  const publicKeyMultibase = usurper.did().replace('did:key:', '')
  return {
    ...document,
    verificationMethod: document.verificationMethod.map((method) => ({ ...method, publicKeyMultibase })),
  }
}

// An export with another commit or tree, and a document that makes the signature good.
function signedByUsurper(change) {
  return {
    path: (url) => DOCUMENT.test(url) || EXPORT.test(url),
    answer: async (bytes, url) => {
      if (DOCUMENT.test(url)) return json(usurped)(bytes)
      const { root, blocks } = await readCarWithRoot(bytes)
      const { sig, ...commit } = await change(cbor.decode(blocks.get(root)), blocks)
      const signed = { ...commit, sig: cbor.toBytes(await usurper.sign(cbor.encode(commit))) }
      return blocksToCarFile(await add(blocks, cbor.encode(signed)), blocks)
    },
  }
}

// The same records in a tree of one node.
async function flatten(commit, blocks) {
  const entries = []
  const walk = (node) => {
    if (!node) return
    const { l, e } = cbor.decode(blocks.get(CID.parse(node.$link)))
    walk(l)
    let before = Buffer.alloc(0)
    for (const { p, k, v, t } of e) {
      before = Buffer.concat([before.subarray(0, p), cbor.fromBytes(k)])
      entries.push({ key: before, v })
      walk(t)
    }
  }
  walk(commit.data)
  const e = entries.map(({ key, v }, index) => {
    const last = index ? entries[index - 1].key : Buffer.alloc(0)
    let p = 0
    while (p < last.length && last[p] === key[p]) p++
    return { k: cbor.toBytes(key.subarray(p)), p, t: null, v }
  })
  return { ...commit, data: link(await add(blocks, cbor.encode({ e, l: null }))) }
}

// An event whose blocks have one less; its commit tells which.
async function without(body, which) {
  const { root, blocks } = await readCarWithRoot(cbor.fromBytes(body.blocks))
  const missing = which(cbor.decode(blocks.get(root)))
  if (!missing) return body
  blocks.delete(CID.parse(missing.$link))
  return { ...body, blocks: cbor.toBytes(await blocksToCarFile(root, blocks)) }
}

// Starts a proxy that tells one of the lies, or `nothing`.
export async function lying(upstream, name) {
  const lie = lies[name] ?? {}
  const told = (url) => (lie.path instanceof RegExp ? lie.path.test(url) : lie.path?.(url))
  const server = http.createServer(async (request, response) => {
    const answer = await fetch(upstream + request.url, { redirect: 'manual' })
    let bytes = Buffer.from(await answer.arrayBuffer())
    let code = answer.status
    if (told(decodedPath(request.url)) && (answer.ok || name === 'repo-invented')) {
      const falsified = await lie.answer(bytes, decodedPath(request.url))
      bytes = falsified.bytes ?? falsified
      code = falsified.code ?? code
    }
    response.writeHead(code, { 'content-type': answer.headers.get('content-type') ?? '' })
    response.end(bytes)
  })
  new WebSocketServer({ server }).on('connection', (client, request) => {
    const source = new WebSocket(upstream.replace(/^http/, 'ws') + request.url)
    const commits = new Map()
    let order = Promise.resolve()
    source.on('message', (frame) => {
      order = order.then(async () => {
        for (const one of await falsified(lie, new Uint8Array(frame), commits)) client.send(one)
      })
    })
    source.on('close', () => order.then(() => client.close()))
    client.on('close', () => source.close())
  })
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  const close = () => {
    server.close()
    server.closeAllConnections()
  }
  return { url: `http://127.0.0.1:${server.address().port}`, close }
}

// A DID in a path is written with and without escapes.
function decodedPath(url) {
  return url.startsWith('/did%3A') ? decodeURIComponent(url) : url
}

// Not in the first commit of a repository: some lies show only against what went before.
async function falsified(lie, frame, commits) {
  if (lie.frame) return [await lie.frame(frame)]
  const [header, rest] = cbor.decodeFirst(frame)
  const [body] = cbor.decodeFirst(rest)
  if (header.t !== '#commit' || !lie.event) return [frame]
  const nth = (commits.get(body.repo) ?? 0) + 1
  commits.set(body.repo, nth)
  if (nth < 2) return [frame]
  const bodies = await lie.event(body, nth)
  return bodies.map((one) => Buffer.concat([cbor.encode(header), cbor.encode(one)]))
}
