// Judges a PDS as others see it, with the AT Protocol's reference packages.
//
//   node verify.mjs --pds URL --plc URL --did DID [--handle HANDLE] [--home URL] [--map ORIGIN=URL]...
//
// Prints one JSON array of {name, ok, note}. `--home` is the address that the DID document must name, when
// it is not the one asked. `--map` fetches an https origin (the home of a did:web) from loopback.
import { parseArgs } from 'node:util'
import { IdResolver } from '@atproto/identity'
import { firehoseChecks } from './firehose.mjs'
import { repoChecks } from './repo.mjs'
import { serverChecks } from './server.mjs'

const { values: options } = parseArgs({
  options: {
    pds: { type: 'string' },
    plc: { type: 'string' },
    did: { type: 'string' },
    handle: { type: 'string' },
    home: { type: 'string' },
    map: { type: 'string', multiple: true, default: [] },
  },
})

const origins = new Map(options.map.map((entry) => entry.split('=')))
const fetchAnything = globalThis.fetch
globalThis.fetch = (input, init) => {
  const url = new URL(input instanceof Request ? input.url : String(input))
  const target = origins.get(url.origin)
  return target ? fetchAnything(target + url.pathname + url.search, init) : fetchAnything(input, init)
}

const pds = options.pds.replace(/\/$/, '')
const subject = {
  pds,
  home: options.home ?? pds,
  did: options.did,
  handle: options.handle,
  identities: new IdResolver({ plcUrl: options.plc, fetch: globalThis.fetch }),
  async query(method, parameters = {}) {
    const response = await fetch(`${pds}/xrpc/${method}?${new URLSearchParams(parameters)}`)
    const bytes = new Uint8Array(await response.arrayBuffer())
    const json = () => JSON.parse(Buffer.from(bytes).toString())
    return { status: response.status, type: response.headers.get('content-type') ?? '', bytes, json }
  },
}

const results = []
for (const [name, check] of [...serverChecks, ...repoChecks, ...firehoseChecks]) {
  try {
    results.push({ name, ok: true, note: (await check(subject)) ?? '' })
  } catch (error) {
    results.push({ name, ok: false, note: String(error?.message ?? error) })
  }
}
console.log(JSON.stringify(results))
process.exit(0)
