// com.atproto.sync.subscribeRepos: read by the reference consumer, and strictly by the rules of sync 1.1.
import * as cbor from '@atcute/cbor'
import { verifySignature } from '@atproto/crypto'
import { MST, MemoryBlockstore, readCarWithRoot } from '@atproto/repo'
import { Firehose, MemoryRunner } from '@atproto/sync'
import { isValidDid, isValidNsid, isValidRecordKey, isValidTid } from '@atproto/syntax'
import { CID } from 'multiformats/cid'
import { WebSocket } from 'ws'
import { must } from './must.mjs'

export const firehoseChecks = [
  ['firehose-consumer', consumer],
  ['firehose-strict', strict],
  ['firehose-future-cursor', futureCursor],
]
const QUIET = 1500
const LIMIT = 30_000
const MAX_FRAME = 5_000_000
const MAX_BLOCKS = 2_000_000
const MAX_OPS = 200

const socket = (pds) => pds.replace(/^http/, 'ws')

// Ends when nothing has come for a while: a firehose has no end of its own.
function untilQuiet(listen) {
  return new Promise((resolve, reject) => {
    setTimeout(resolve, LIMIT)
    let quiet = setTimeout(resolve, QUIET)
    const heard = () => {
      clearTimeout(quiet)
      quiet = setTimeout(resolve, QUIET)
    }
    listen(heard, reject)
  })
}

async function consumer({ pds, identities }) {
  const kinds = {}
  let firehose
  try {
    await untilQuiet((heard, failed) => {
      firehose = new Firehose({
        service: socket(pds),
        idResolver: identities,
        runner: new MemoryRunner({ startCursor: 0 }),
        handleEvent: ({ event }) => {
          kinds[event] = (kinds[event] ?? 0) + 1
          heard()
        },
        onError: (error) => failed(new Error(`${error.message} ${error.cause ?? ''}`)),
        unauthenticatedHandles: true,
        subscriptionReconnectDelay: LIMIT,
      })
      firehose.start()
    })
  } finally {
    await Promise.race([firehose.destroy(), new Promise((resolve) => setTimeout(resolve, 500))])
  }
  must(Object.keys(kinds).length > 0, 'no events')
  return JSON.stringify(kinds)
}

async function strict({ pds, identities }) {
  const frames = []
  let stream
  try {
    await untilQuiet((heard, failed) => {
      stream = new WebSocket(`${socket(pds)}/xrpc/com.atproto.sync.subscribeRepos?cursor=0`)
      stream.on('error', failed)
      stream.on('message', (data, isBinary) => {
        if (!isBinary) failed(new Error('a text frame'))
        frames.push(new Uint8Array(data))
        heard()
      })
    })
  } finally {
    stream.terminate()
  }
  must(frames.length > 0, 'no frames')
  const state = { seq: 0, repos: new Map(), keyOf: (did) => identities.did.resolveAtprotoKey(did) }
  const counts = {}
  for (const frame of frames) {
    const { kind, body } = decode(frame)
    counts[kind] = (counts[kind] ?? 0) + 1
    try {
      await event(kind, body, state)
    } catch (error) {
      throw new Error(`seq ${body.seq} ${kind}: ${error.message}`)
    }
  }
  return JSON.stringify(counts)
}

function decode(frame) {
  must(frame.length <= MAX_FRAME, 'frame too large')
  const [header, rest] = cbor.decodeFirst(frame)
  const [body, tail] = cbor.decodeFirst(rest)
  must(tail.length === 0, 'bytes after the body')
  must(header.op === 1, `op ${header.op}: ${JSON.stringify(body)}`)
  return { kind: header.t, body }
}

async function event(kind, body, state) {
  if (kind === '#info') return
  must(Number.isInteger(body.seq) && body.seq > state.seq, `seq after ${state.seq}`)
  must(!Number.isNaN(Date.parse(body.time)), `time ${body.time}`)
  state.seq = body.seq
  if (kind === '#commit') await commitEvent(body, state)
  else if (kind === '#sync') await syncEvent(body, state)
  else if (kind === '#account') must(isValidDid(body.did) && typeof body.active === 'boolean', 'fields')
  else if (kind === '#identity') must(isValidDid(body.did), 'did')
  else throw new Error('unknown type')
}

async function signedCommit(bytes, did, rev, state) {
  const { root, blocks } = await readCarWithRoot(bytes)
  const commit = cbor.decode(blocks.get(root))
  must(commit.did === did && commit.rev === rev && commit.version === 3 && commit.prev === null, 'commit fields')
  const { sig, ...unsigned } = commit
  must(await verifySignature(await state.keyOf(did), cbor.encode(unsigned), cbor.fromBytes(sig)), 'bad signature')
  return { root, blocks, commit }
}

async function syncEvent(body, state) {
  const { commit } = await signedCommit(cbor.fromBytes(body.blocks), body.did, body.rev, state)
  state.repos.set(body.did, { rev: commit.rev, data: commit.data.$link })
}

async function commitEvent(body, state) {
  must(body.rebase === false && body.tooBig === false, 'rebase or tooBig')
  must(isValidTid(body.rev), `rev ${body.rev}`)
  must(body.ops.length <= MAX_OPS, `${body.ops.length} operations`)
  const bytes = cbor.fromBytes(body.blocks)
  must(bytes.length <= MAX_BLOCKS, `${bytes.length} bytes of blocks`)
  const { root, blocks, commit } = await signedCommit(bytes, body.repo, body.rev, state)
  must(root.toString() === body.commit.$link, 'the CAR has another root')
  follows(body, state.repos.get(body.repo))
  const tree = MST.load(new MemoryBlockstore(blocks), CID.parse(commit.data.$link))
  for (const op of body.ops) await operation(op, tree, blocks)
  must(new Set(body.ops.map(({ path }) => path)).size === body.ops.length, 'a path twice')
  await inverts(body, tree)
  state.repos.set(body.repo, { rev: commit.rev, data: commit.data.$link })
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
  for (const ops of [[...body.ops].reverse(), relay]) {
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

async function futureCursor({ pds }) {
  const stream = new WebSocket(`${socket(pds)}/xrpc/com.atproto.sync.subscribeRepos?cursor=99999999999`)
  try {
    const frame = await new Promise((resolve, reject) => {
      stream.on('error', reject)
      stream.on('message', (data) => resolve(new Uint8Array(data)))
      setTimeout(() => reject(new Error('nothing was sent')), 3000)
    })
    const [header, rest] = cbor.decodeFirst(frame)
    const [body] = cbor.decodeFirst(rest)
    must(header.op === -1 && body.error === 'FutureCursor', JSON.stringify(body))
  } finally {
    stream.terminate()
  }
}
