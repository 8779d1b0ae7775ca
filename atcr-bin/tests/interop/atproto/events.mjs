// The event stream of com.atproto.sync.subscribeRepos, by the strict rules of sync 1.1.
import { once } from 'node:events'
import * as cbor from '@atcute/cbor'
import { verifySignature } from '@atproto/crypto'
import { MST, MemoryBlockstore, readCarWithRoot } from '@atproto/repo'
import { isValidDid, isValidNsid, isValidRecordKey, isValidTid } from '@atproto/syntax'
import { CID } from 'multiformats/cid'
import { WebSocket } from 'ws'
import { must } from './must.mjs'

const MAX_FRAME = 5_000_000
const MAX_BLOCKS = 2_000_000
const MAX_OPS = 200
// Frames that wait to be read before the sender has to wait as well.
const AHEAD = 64

// The frames behind a cursor, until the stream is closed. Nothing for `quiet` milliseconds is a failure.
export async function* frames(service, cursor, quiet) {
  const url = `${service.replace(/^http/, 'ws')}/xrpc/com.atproto.sync.subscribeRepos?cursor=${cursor}`
  const stream = new WebSocket(url, { maxPayload: MAX_FRAME })
  const waiting = []
  let wake = () => {}
  let end
  const heard = (change) => (value, extra) => {
    change(value, extra)
    wake()
  }
  stream.on('message', heard((data, isBinary) => {
    waiting.push(isBinary ? new Uint8Array(data) : undefined)
    if (waiting.length >= AHEAD) stream.pause()
  }))
  stream.on('error', heard((error) => (end ??= { error })))
  stream.on('close', heard(() => (end ??= {})))
  try {
    for (;;) {
      if (waiting.length) {
        const frame = waiting.shift()
        if (stream.isPaused && waiting.length === 0) stream.resume()
        must(frame, 'a text frame')
        yield frame
      } else if (end) {
        if (end.error) throw end.error
        return
      } else {
        let timer
        const silence = new Promise((_, reject) => {
          timer = setTimeout(() => reject(new Error(`nothing came for ${quiet} ms`)), quiet)
        })
        await Promise.race([new Promise((resolve) => (wake = resolve)), silence])
        clearTimeout(timer)
      }
    }
  } finally {
    stream.terminate()
    if (stream.readyState !== WebSocket.CLOSED) await once(stream, 'close').catch(() => {})
  }
}

export function decode(frame) {
  must(frame.length <= MAX_FRAME, 'frame too large')
  const [header, rest] = cbor.decodeFirst(frame)
  const [body, tail] = cbor.decodeFirst(rest)
  must(tail.length === 0, 'bytes after the body')
  must(header.op === 1, `op ${header.op}: ${JSON.stringify(body)}`)
  return { kind: header.t, body }
}

// What was seen of one stream: each event is checked by itself and against those before it.
export class Stream {
  constructor(identities, seq = 0) {
    this.identities = identities
    this.seq = seq
    this.repos = new Map()
    this.keys = new Map()
    this.counts = {}
  }

  // The revision up to which a repo was followed; sorts before all others when nothing was seen of it.
  rev(did) {
    return this.repos.get(did)?.rev ?? ''
  }

  async take(frame) {
    const { kind, body } = decode(frame)
    this.counts[kind] = (this.counts[kind] ?? 0) + 1
    try {
      await this.event(kind, body)
    } catch (error) {
      throw new Error(`seq ${body.seq} ${kind}: ${error.message}`)
    }
    return { kind, body }
  }

  async event(kind, body) {
    if (kind === '#info') return
    must(Number.isInteger(body.seq) && body.seq > this.seq, `seq after ${this.seq}`)
    must(!Number.isNaN(Date.parse(body.time)), `time ${body.time}`)
    this.seq = body.seq
    if (kind === '#commit') await this.commit(body)
    else if (kind === '#sync') await this.sync(body)
    else if (kind === '#account') must(isValidDid(body.did) && typeof body.active === 'boolean', 'fields')
    else if (kind === '#identity') this.identity(body)
    else throw new Error('unknown type')
  }

  // The document may have changed: what was known of it is forgotten.
  identity(body) {
    must(isValidDid(body.did), 'did')
    this.keys.delete(body.did)
  }

  async key(did) {
    if (!this.keys.has(did)) this.keys.set(did, await this.identities.did.resolveAtprotoKey(did, true))
    return this.keys.get(did)
  }

  async signedCommit(bytes, did, rev) {
    must(bytes.length <= MAX_BLOCKS, `${bytes.length} bytes of blocks`)
    const { root, blocks } = await readCarWithRoot(bytes)
    const commit = cbor.decode(blocks.get(root))
    must(commit.did === did && commit.rev === rev && commit.version === 3 && commit.prev === null, 'commit fields')
    const { sig, ...unsigned } = commit
    must(await verifySignature(await this.key(did), cbor.encode(unsigned), cbor.fromBytes(sig)), 'bad signature')
    return { root, blocks, commit }
  }

  async sync(body) {
    const { commit } = await this.signedCommit(cbor.fromBytes(body.blocks), body.did, body.rev)
    this.repos.set(body.did, { rev: commit.rev, data: commit.data.$link })
  }

  async commit(body) {
    must(body.rebase === false && body.tooBig === false, 'rebase or tooBig')
    must(isValidTid(body.rev), `rev ${body.rev}`)
    must(body.ops.length <= MAX_OPS, `${body.ops.length} operations`)
    const { root, blocks, commit } = await this.signedCommit(cbor.fromBytes(body.blocks), body.repo, body.rev)
    must(root.toString() === body.commit.$link, 'the CAR has another root')
    follows(body, this.repos.get(body.repo))
    const tree = MST.load(new MemoryBlockstore(blocks), CID.parse(commit.data.$link))
    for (const op of body.ops) await operation(op, tree, blocks)
    must(new Set(body.ops.map(({ path }) => path)).size === body.ops.length, 'a path twice')
    await inverts(body, tree)
    this.repos.set(body.repo, { rev: commit.rev, data: commit.data.$link })
  }
}

function follows(body, previous) {
  must('since' in body, 'no since')
  if (body.since) must(body.prevData, 'no prevData')
  if (!previous) return
  must(body.rev > previous.rev, `rev ${body.rev} after ${previous.rev}`)
  must(body.since === previous.rev, `since ${body.since}, not ${previous.rev}`)
  must(body.prevData?.$link === previous.data, 'prevData is not the last data')
}

async function operation(op, tree, blocks) {
  const slash = op.path.indexOf('/')
  must(isValidNsid(op.path.slice(0, slash)) && isValidRecordKey(op.path.slice(slash + 1)), `path ${op.path}`)
  const current = await tree.get(op.path)
  if (op.action === 'delete') {
    must(op.cid === null && current === null && op.prev, `delete of ${op.path}`)
    return
  }
  must(op.cid && current?.toString() === op.cid.$link, `${op.path} is not in the tree`)
  must(blocks.get(current), `the block of ${op.path} is missing`)
  must(op.action === 'create' ? !op.prev : op.prev, `prev on ${op.action} of ${op.path}`)
}

// Undone in reverse, and in the order of the network's relay (deletes first, then by path), the operations lead back.
async function inverts(body, tree) {
  if (!body.prevData) return
  const deletesFirst = (left, right) => (right.action === 'delete') - (left.action === 'delete')
  const relay = [...body.ops].sort((left, right) => deletesFirst(left, right) || (left.path < right.path ? -1 : 1))
  const orders = body.ops.length > 1 ? [[...body.ops].reverse(), relay] : [body.ops]
  for (const ops of orders) {
    let before = tree
    for (const { action, path, prev } of ops) {
      if (action === 'create') before = await before.delete(path)
      else if (action === 'update') before = await before.update(path, CID.parse(prev.$link))
      else before = await before.add(path, CID.parse(prev.$link))
    }
    const pointer = (await before.getPointer()).toString()
    must(pointer === body.prevData.$link, `undone ${pointer}, prevData says ${body.prevData.$link}`)
  }
}
