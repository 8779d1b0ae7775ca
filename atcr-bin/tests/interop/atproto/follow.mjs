// Follows the event stream of one service from its beginning, over restarts of the service, as strictly as can be.
//
//   node follow.mjs --pds URL --plc URL --did DID [--cursor SEQ] [--export URL] [--map ORIGIN=URL]...
//
// `--export` is where the repository comes from at the end, when it is not the service that is followed (a relay has
// none). The goal comes as one line on standard input: `{"rev": REV, "acknowledged": FILE}`. Then all that was
// acknowledged must have come exactly once, and what the events left must be what is exported. Prints `following` once
// events come, and in the end one line of JSON.
import fs from 'node:fs'
import readline from 'node:readline'
import { parseArgs } from 'node:util'
import { Stream, frames } from './events.mjs'
import { must } from './must.mjs'
import { exported } from './repo.mjs'
import { options as subjectOptions, subject } from './subject.mjs'

const { values: options } = parseArgs({
  options: { ...subjectOptions, cursor: { type: 'string', default: '0' }, export: { type: 'string' } },
})
const QUIET = 60_000
const RETRY = 50

const followed = subject(options)
const stream = new Stream(followed.identities, Number(options.cursor))
const seen = new Map()
const records = new Map()
let connections = 0
let refused = 0
let following = false
let goal
readline.createInterface(process.stdin).once('line', (line) => (goal = JSON.parse(line)))
const reached = () => goal && stream.rev(options.did) >= goal.rev

function note({ kind, body }) {
  if (kind !== '#commit' || body.repo !== options.did) return
  must(!seen.has(body.rev), `${body.rev} came twice`)
  seen.set(body.rev, body.commit.$link)
  for (const { path, cid } of body.ops) {
    if (cid) records.set(path, cid.$link)
    else records.delete(path)
  }
}

// Until the goal: to be asked even while nothing comes.
async function follow() {
  const events = frames(options.pds, stream.seq, QUIET)
  try {
    let next = events.next()
    while (!reached()) {
      const event = await Promise.race([next, new Promise((resolve) => setTimeout(resolve, 200))])
      if (!event) continue
      if (event.done) return
      note(await stream.take(event.value))
      if (!following) console.log('following')
      following = true
      next = events.next()
    }
  } finally {
    events.return().catch(() => {})
  }
}

while (!reached()) {
  try {
    connections += 1
    await follow()
  } catch (error) {
    // Whoever restarts refuses connections, or hangs up in the middle of a handshake.
    if (!['ECONNREFUSED', 'ECONNRESET'].includes(error.code) && error.message !== 'socket hang up') throw error
    connections -= 1
    refused += 1
  }
  await new Promise((resolve) => setTimeout(resolve, RETRY))
}

const wanted = fs.readFileSync(goal.acknowledged, 'utf8').split('\n').filter(Boolean)
for (const line of wanted) {
  const [rev, cid] = line.split(' ')
  // A deletion of what is not there answers with the commit before.
  must(seen.get(rev) === cid, `${rev} was acknowledged as ${cid} and came as ${seen.get(rev)}`)
}
followed.key = await followed.identities.did.resolveAtprotoKey(options.did, true)
followed.query = subject({ ...options, pds: options.export ?? options.pds }).query
const whole = await exported(followed)
must(whole.rev === stream.rev(options.did), `the export is at ${whole.rev}`)
must(whole.data === stream.repos.get(options.did).data, 'the export has another tree')
must(whole.records.length === records.size, `${whole.records.length} records, the events left ${records.size}`)
for (const { collection, rkey, cid } of whole.records) {
  must(records.get(`${collection}/${rkey}`) === cid.toString(), `${collection}/${rkey} differs`)
}
const { seq, counts } = stream
const result = { seq, counts, commits: seen.size, acknowledged: wanted.length, records: records.size, connections, refused }
console.log(JSON.stringify(result))
process.exit(0)
