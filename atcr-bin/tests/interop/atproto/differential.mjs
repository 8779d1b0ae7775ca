// The same random writes to a PDS and to the reference's tree: every root, every block of every event, and the whole
// repo at the end must be equal. Arguments: --pds URL --handle H --password P [--commits N] [--seed N]
import { createHash } from 'node:crypto'
import { parseArgs } from 'node:util'
import * as cbor from '@atcute/cbor'
import { DataDiff, MST, MemoryBlockstore, readCarWithRoot } from '@atproto/repo'
import { CID } from 'multiformats/cid'
import { create as digest } from 'multiformats/hashes/digest'
import { WebSocket } from 'ws'
import { must } from './must.mjs'

const DAG_CBOR = 0x71
const SHA2_256 = 0x12
const NOTE = 'com.example.note'
const ALPHABET = '-.0123456789:ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~'
// `com.example.note/k<n>` that stand far above all others in the tree.
const HIGH = [541, 3111, 8860, 15680, 37838, 43174, 388156, 427675, 1524926, 1791834, 337582, 3749760, 613960, 25010112]

const { values: options } = parseArgs({
  options: {
    pds: { type: 'string' }, handle: { type: 'string' }, password: { type: 'string' },
    commits: { type: 'string', default: '150' }, seed: { type: 'string', default: '1' },
  },
})

// SplitMix64, as in the tests of atcr-pds.
function randomFrom(seed) {
  let state = BigInt(seed)
  const next = () => {
    state = BigInt.asUintN(64, state + 0x9e3779b97f4a7c15n)
    let z = state
    z = BigInt.asUintN(64, (z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n)
    z = BigInt.asUintN(64, (z ^ (z >> 27n)) * 0x94d049bb133111ebn)
    return z ^ (z >> 31n)
  }
  return (below) => Number(next() % BigInt(below))
}

function keys() {
  const note = (rkey) => ({ collection: NOTE, rkey })
  return [
    ...Array.from({ length: 300 }, (_, n) => note(`k${n}`)),
    ...HIGH.map((n) => note(`k${n}`)),
    ...Array.from({ length: 40 }, (_, n) => note('a'.repeat(n + 1))),
    ...Array.from({ length: 20 }, (_, n) => note('b'.repeat(508) + n)),
    ...[...ALPHABET].filter((c) => c !== '.').map(note),
    ...['com.example.note-x.y', 'com.example.note.deep', 'com.example.noteB'].flatMap((collection) =>
      Array.from({ length: 20 }, (_, n) => ({ collection, rkey: `${ALPHABET[(n * 7) % 60]}~${n}` }))),
  ]
}

const sorted = (cids) => [...new Set(cids)].sort()
const equal = (left, right) => left.length === right.length && left.every((cid, index) => cid === right[index])
const differ = (ours, theirs) =>
  `we have more: ${ours.filter((c) => !theirs.includes(c))}; we lack: ${theirs.filter((c) => !ours.includes(c))}`

function cidOf(record) {
  const hash = createHash('sha256').update(cbor.encode(record)).digest()
  return CID.createV1(DAG_CBOR, digest(SHA2_256, hash))
}

class Pds {
  constructor(url) {
    this.url = url
  }

  async call(method, body, token) {
    const answer = await fetch(`${this.url}/xrpc/${method}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...(token && { authorization: `Bearer ${token}` }) },
      body: JSON.stringify(body),
    })
    const text = await answer.text()
    must(answer.status === 200, `${method}: ${answer.status} ${text}`)
    return JSON.parse(text)
  }

  async repo(did) {
    const answer = await fetch(`${this.url}/xrpc/com.atproto.sync.getRepo?did=${did}`)
    must(answer.status === 200, `getRepo: ${answer.status}`)
    const { root, blocks } = await readCarWithRoot(new Uint8Array(await answer.arrayBuffer()))
    return { commit: cbor.decode(blocks.get(root)), root, blocks }
  }

  // The `#commit` events of a repo, one after the other.
  async follow(did) {
    const stream = new WebSocket(`${this.url.replace(/^http/, 'ws')}/xrpc/com.atproto.sync.subscribeRepos`)
    const waiting = []
    const come = []
    stream.on('message', (data) => {
      const [header, rest] = cbor.decodeFirst(new Uint8Array(data))
      const [body] = cbor.decodeFirst(rest)
      if (header.t !== '#commit' || body.repo !== did) return
      if (waiting.length) waiting.shift()(body)
      else come.push(body)
    })
    await new Promise((opened, failed) => stream.once('open', opened).once('error', failed))
    const next = () => (come.length ? Promise.resolve(come.shift()) : new Promise((heard) => waiting.push(heard)))
    return { next, end: () => stream.terminate() }
  }
}

// Some writes that fit what is there, one for each path.
function writes(random, paths, there) {
  const count = 1 + random(random(6) === 0 ? 60 : 6)
  const chosen = new Map()
  for (let n = 0; n < count; n++) {
    const path = paths[random(paths.length)]
    chosen.set(`${path.collection}/${path.rkey}`, path)
  }
  return [...chosen].map(([key, path]) => {
    const before = there.get(key)
    if (before && random(3) === 0) return { key, ...path, action: 'delete', before }
    let n
    do n = random(12)
    while (before?.n === n)
    const record = { $type: path.collection, n }
    return { key, ...path, action: before ? 'update' : 'create', before, after: { n, record, cid: cidOf(record) } }
  })
}

function input({ collection, rkey, action, after }) {
  return { $type: `com.atproto.repo.applyWrites#${action}`, collection, rkey, ...(after && { value: after.record }) }
}

async function compare(tree, before, done, event) {
  for (const { key, action, after } of done) {
    if (action === 'create') tree = await tree.add(key, after.cid)
    else if (action === 'update') tree = await tree.update(key, after.cid)
    else tree = await tree.delete(key)
  }
  const root = (await tree.getPointer()).toString()
  const { root: head, blocks } = await readCarWithRoot(cbor.fromBytes(event.blocks))
  const commit = cbor.decode(blocks.get(head))
  must(commit.data.$link === root, `the root is ${commit.data.$link}, the reference has ${root}`)
  must(event.prevData.$link === (await before.getPointer()).toString(), 'prevData')

  const told = event.ops.map(({ action, path, cid, prev }) => [action, path, cid?.$link, prev?.$link].join()).sort()
  const made = done.map(({ action, key, before, after }) => [action, key, after?.cid, before?.cid].join()).sort()
  must(equal(told, made), `operations ${told} for ${made}`)

  // What the reference puts into an event: the covering proofs, the new records and the commit.
  const diff = await DataDiff.of(tree, before)
  const proofs = await Promise.all(done.map(({ key }) => tree.getCoveringProof(key)))
  const theirs = sorted([
    head.toString(),
    ...proofs.flatMap((proof) => proof.entries().map(({ cid }) => cid.toString())),
    ...done.flatMap(({ after }) => (after ? [after.cid.toString()] : [])),
  ])
  const ours = sorted(blocks.entries().map(({ cid }) => cid.toString()))
  must(equal(ours, theirs), `the event: ${differ(ours, theirs)}`)
  for (const { cid, bytes } of diff.newMstBlocks.entries()) {
    must(Buffer.from(blocks.get(cid)).equals(Buffer.from(bytes)), `block ${cid} has other bytes`)
  }
  return { tree, diff, root }
}

const pds = new Pds(options.pds)
const session = await pds.call('com.atproto.server.createSession', {
  identifier: options.handle, password: options.password,
})
const random = randomFrom(options.seed)
const paths = keys()
const there = new Map()
const storage = new MemoryBlockstore()
const start = await pds.repo(session.did)
await storage.putMany(start.blocks)
let tree = MST.load(storage, CID.parse(start.commit.data.$link))
for (const { key, value } of await tree.list()) {
  const record = cbor.decode(start.blocks.get(value))
  there.set(key, { n: record.n, record, cid: value })
}
const events = await pds.follow(session.did)
let operations = 0
try {
  for (let n = 0; n < Number(options.commits); n++) {
    const done = writes(random, paths, there)
    operations += done.length
    await pds.call('com.atproto.repo.applyWrites', { repo: session.did, writes: done.map(input) }, session.accessJwt)
    const next = await compare(tree, tree, done, await events.next()).catch((error) => {
      throw new Error(`commit ${n} of seed ${options.seed}: ${error.message}`)
    })
    await storage.putMany(next.diff.newMstBlocks)
    tree = MST.load(storage, CID.parse(next.root))
    for (const { key, after } of done) after ? there.set(key, after) : there.delete(key)
  }
} finally {
  events.end()
}
// At the end: not one block more or less than the reference has.
const whole = await pds.repo(session.did)
const theirs = sorted([whole.root.toString(), ...(await tree.allCids()).toList().map((cid) => cid.toString())])
const ours = sorted(whole.blocks.entries().map(({ cid }) => cid.toString()))
must(equal(ours, theirs), `the export: ${differ(ours, theirs)}`)
console.log(`${options.commits} commits of ${operations} writes, ${ours.length} blocks at the end, all equal`)
