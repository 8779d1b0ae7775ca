// Shows that the judge can fail: passes a PDS on and lies in one respect.
//
//   node lying-proxy.mjs UPSTREAM LIE
//
// LIE is one of those below, or `nothing`. Prints its port when ready; ends on SIGTERM.
import http from 'node:http'
import * as cbor from '@atcute/cbor'
import * as links from '@atcute/cid'
import { blocksToCarFile, readCarWithRoot } from '@atproto/repo'
import { CID } from 'multiformats/cid'
import { sha256 } from 'multiformats/hashes/sha2'
import { WebSocket, WebSocketServer } from 'ws'

const [, , upstream, lie] = process.argv
const DAG_CBOR = 0x71

const flip = (bytes, at) => {
  const copy = Buffer.from(bytes)
  copy[at] ^= 1
  return copy
}
const flipEnd = (bytes) => flip(bytes, bytes.length - 5)

// A commit whose hash is right and whose signature is not.
async function forgeSignature(car) {
  const { root, blocks } = await readCarWithRoot(car)
  const commit = cbor.decode(blocks.get(root))
  const forged = cbor.encode({ ...commit, sig: cbor.toBytes(flip(cbor.fromBytes(commit.sig), 10)) })
  const cid = CID.createV1(DAG_CBOR, await sha256.digest(forged))
  blocks.delete(root)
  blocks.set(cid, forged)
  return { cid, car: await blocksToCarFile(cid, blocks) }
}

const answers = {
  'export-signature': [/sync\.getRepo\?/, async (bytes) => (await forgeSignature(bytes)).car],
  'export-block': [/sync\.getRepo\?/, flipEnd],
  'record-proof': [/sync\.getRecord\?/, flipEnd],
  'blob-bytes': [/sync\.getBlob\?/, (bytes) => flip(bytes, 1)],
  'latest-rev': [/getLatestCommit\?/, (bytes) => Buffer.from(bytes.toString().replace(/("rev":".{12})./, '$12'))],
}
const commits = {
  'event-prev-data': (body) => ({ ...body, prevData: body.commit }),
  'event-operation': (body) => ({ ...body, ops: body.ops.slice(1) }),
  'event-since': (body) => ({ ...body, since: '3aaaaaaaaaa2a' }),
  'event-seq': (body) => ({ ...body, seq: 1 }),
  'event-signature': async (body) => {
    const { cid, car } = await forgeSignature(cbor.fromBytes(body.blocks))
    return { ...body, commit: links.toCidLink(links.fromString(cid.toString())), blocks: cbor.toBytes(car) }
  },
}

const server = http.createServer(async (request, response) => {
  const answer = await fetch(upstream + request.url, { redirect: 'manual' })
  let bytes = Buffer.from(await answer.arrayBuffer())
  const [path, falsify] = answers[lie] ?? []
  if (answer.ok && path?.test(request.url)) bytes = await falsify(bytes)
  response.writeHead(answer.status, { 'content-type': answer.headers.get('content-type') ?? '' })
  response.end(bytes)
})

new WebSocketServer({ server }).on('connection', (client, request) => {
  const source = new WebSocket(upstream.replace(/^http/, 'ws') + request.url)
  let seen = 0
  let order = Promise.resolve()
  source.on('message', (frame) => {
    order = order.then(async () => client.send(await falsified(new Uint8Array(frame), ++seen)))
  })
  source.on('close', () => client.close())
  client.on('close', () => source.close())
})

// Not in the first frame: some lies show only against what went before.
async function falsified(frame, seen) {
  const [header, rest] = cbor.decodeFirst(frame)
  const [body] = cbor.decodeFirst(rest)
  if (header.t !== '#commit' || seen < 2 || !commits[lie]) return frame
  return Buffer.concat([cbor.encode(header), cbor.encode(await commits[lie](body))])
}

server.listen(0, '127.0.0.1', () => console.log(server.address().port))
process.on('SIGTERM', () => process.exit(0))
