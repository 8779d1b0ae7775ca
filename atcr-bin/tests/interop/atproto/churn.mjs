// Random writes to a repository over XRPC: single records and batches, created, replaced and deleted.
//
//   node churn.mjs --pds URL --did DID --session URL --handle HANDLE --password PASSWORD
//                  [--service] [--writes N] [--workers N] [--pause MS] [--seed N] [--acknowledged FILE]
//                  [--interrupted]
//
// `--session` is the PDS of the writer. With `--service` each request carries a token that this PDS made for DID, which
// is how a hold is written. Each worker rests for a pause between requests. Ends after N records, with `--interrupted`
// not before the service was away once; or on SIGTERM. FILE gets a line `REV CID` for each commit that was
// acknowledged. Prints the number of records, from the first acknowledged one on, now and then; `away` when the service
// does not answer for the first time; and at the end one line of JSON.
import fs from 'node:fs'
import { parseArgs } from 'node:util'
import { must } from './must.mjs'

const { values: options } = parseArgs({
  options: {
    pds: { type: 'string' },
    did: { type: 'string' },
    session: { type: 'string' },
    handle: { type: 'string' },
    password: { type: 'string' },
    service: { type: 'boolean', default: false },
    writes: { type: 'string', default: 'Infinity' },
    workers: { type: 'string', default: '4' },
    pause: { type: 'string', default: '0' },
    seed: { type: 'string', default: '1' },
    acknowledged: { type: 'string' },
    interrupted: { type: 'boolean', default: false },
  },
})
const WANTED = Number(options.writes)
const REPORT = 500
const COLLECTIONS = ['org.example.churn.alpha', 'org.example.churn.beta', 'org.example.churn.gamma']
const MAX_BATCH = 12
// How long a server that is being restarted may be away.
const AWAY = 60_000

const counts = { records: 0, requests: 0, unanswered: 0 }
const acknowledged = options.acknowledged ? fs.createWriteStream(options.acknowledged) : undefined
let stopped = false
process.on('SIGTERM', () => (stopped = true))

const rest = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds))

// A small generator, so that a run can be repeated.
function random(seed) {
  let state = seed
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}

async function call(service, method, { body, token, parameters }) {
  const url = `${service}/xrpc/${method}${parameters ? `?${new URLSearchParams(parameters)}` : ''}`
  const response = await fetch(url, {
    method: body ? 'POST' : 'GET',
    headers: { ...(token && { authorization: `Bearer ${token}` }), ...(body && { 'content-type': 'application/json' }) },
    body: body && JSON.stringify(body),
  })
  const answer = await response.json()
  must(response.ok, `${method}: ${response.status} ${JSON.stringify(answer)}`)
  return answer
}

const session = await call(options.session, 'com.atproto.server.createSession', {
  body: { identifier: options.handle, password: options.password },
})

async function write(method, input) {
  let token = session.accessJwt
  if (options.service) {
    const parameters = { aud: options.did, lxm: method }
    token = (await call(options.session, 'com.atproto.server.getServiceAuth', { token, parameters })).token
  }
  return call(options.pds, method, { token, body: { repo: options.did, ...input } })
}

// No answer: the server is away. What it said before it went is not known, only that it comes back.
const away = (error) => (error instanceof TypeError && error.cause) || error instanceof SyntaxError

async function worker(number) {
  const next = random(Number(options.seed) * 1000 + number)
  const live = new Map()
  let made = 0
  const value = (collection) => ({ $type: collection, number: next(1e9), text: 'x'.repeat(next(400)) })
  const create = () => {
    const collection = COLLECTIONS[next(COLLECTIONS.length)]
    return { action: 'create', collection, rkey: `${options.seed}-${number}-${made++}`, value: value(collection) }
  }
  const change = (touched) => {
    const known = [...live.values()].filter(({ rkey }) => !touched.has(rkey))
    if (next(10) < 6 || known.length === 0) return create()
    const { collection, rkey } = known[next(known.length)]
    return next(10) < 5
      ? { action: 'update', collection, rkey, value: value(collection) }
      : { action: 'delete', collection, rkey }
  }
  const settle = ({ action, collection, rkey }) => {
    if (action === 'delete') live.delete(rkey)
    else live.set(rkey, { collection, rkey })
  }
  let last = Date.now()
  while (!stopped && (counts.records < WANTED || (options.interrupted && counts.unanswered === 0))) {
    const batch = []
    const touched = new Set()
    for (let left = next(8) === 0 ? 2 + next(MAX_BATCH - 1) : 1; left; left--) {
      const one = change(touched)
      touched.add(one.rkey)
      batch.push(one)
    }
    try {
      const { commit } = await send(batch)
      acknowledged?.write(`${commit.rev} ${commit.cid}\n`)
      for (const one of batch) settle(one)
      last = Date.now()
      counts.requests += 1
      const before = counts.records
      counts.records += batch.length
      if (before === 0 || Math.floor(before / REPORT) < Math.floor(counts.records / REPORT)) console.log(counts.records)
      if (options.pause !== '0') await rest(Number(options.pause))
    } catch (error) {
      if (!away(error) || Date.now() - last > AWAY) throw error
      counts.unanswered += 1
      if (counts.unanswered === 1) console.log('away')
      for (const { rkey } of batch) live.delete(rkey)
      await rest(100)
    }
  }
}

function send(batch) {
  const [{ action, collection, rkey, value }] = batch
  if (batch.length > 1) {
    const writes = batch.map(({ action, ...rest }) => ({ $type: `com.atproto.repo.applyWrites#${action}`, ...rest }))
    return write('com.atproto.repo.applyWrites', { writes })
  }
  if (action === 'delete') return write('com.atproto.repo.deleteRecord', { collection, rkey })
  const method = action === 'create' ? 'com.atproto.repo.createRecord' : 'com.atproto.repo.putRecord'
  return write(method, { collection, rkey, record: value })
}

await Promise.all(Array.from({ length: Number(options.workers) }, (_, number) => worker(number)))
if (acknowledged) await new Promise((resolve) => acknowledged.end(resolve))
console.log(JSON.stringify(counts))
process.exit(0)
