// Judges a PDS as others see it, with the AT Protocol's reference packages.
//
//   node verify.mjs --pds URL --plc URL --did DID [--handle HANDLE] [--home URL] [--map ORIGIN=URL]... [--lies]
//
// Prints one JSON array of {name, ok, note}. With `--lies` it judges behind proxies that lie in one respect each, and
// prints an array of {lie, check, noticed}: `nothing` must not be noticed by any check, each lie by its own.
import { parseArgs } from 'node:util'
import { firehoseChecks } from './firehose.mjs'
import { lies, lying } from './lies.mjs'
import { repoChecks } from './repo.mjs'
import { serverChecks } from './server.mjs'
import { options as subjectOptions, subject } from './subject.mjs'

const { values: options } = parseArgs({ options: { ...subjectOptions, lies: { type: 'boolean', default: false } } })

// What later checks of a repository build on.
const foundation = ['did-document', 'repo-car', 'commit']

async function judge(options, wanted = () => true) {
  const results = []
  const judged = subject(options)
  for (const [name, check] of [...serverChecks, ...repoChecks, ...firehoseChecks]) {
    if (!wanted(name)) continue
    try {
      results.push({ name, ok: true, note: (await check(judged)) ?? '' })
    } catch (error) {
      results.push({ name, ok: false, note: String(error?.message ?? error) })
    }
  }
  return results
}

// Behind a lie: only the checks that must notice it, and what they build on.
async function judgeBehind(lie, checks) {
  const ofRepo = repoChecks.some(([name]) => checks?.includes(name))
  const wanted = checks && ((name) => checks.includes(name) || (ofRepo && foundation.includes(name)))
  const proxies = [await lying(options.pds, lie), await lying(options.plc, lie)]
  const [pds, plc] = proxies.map(({ url }) => url)
  const results = await judge({ ...options, pds, plc, home: options.home ?? options.pds }, wanted)
  for (const proxy of proxies) proxy.close()
  return results
}

async function judgeLies() {
  const honest = await judgeBehind('nothing')
  const told = honest.map(({ name, ok }) => ({ lie: 'nothing', check: name, noticed: !ok }))
  for (const [lie, { checks }] of Object.entries(lies)) {
    for (const { name, ok, note } of await judgeBehind(lie, checks)) {
      if (checks.includes(name)) told.push({ lie, check: name, noticed: !ok, note })
    }
  }
  return told
}

console.log(JSON.stringify(options.lies ? await judgeLies() : await judge(options)))
process.exit(0)
