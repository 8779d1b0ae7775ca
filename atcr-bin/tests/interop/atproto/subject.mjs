// A repository to judge, and how to ask for it.
import { IdResolver } from '@atproto/identity'

// The options that describe one, for `parseArgs`. `home` is the address that the DID document must name when it is not
// the one asked; `map` fetches an https origin (the home of a did:web) from loopback.
export const options = {
  pds: { type: 'string' },
  plc: { type: 'string' },
  did: { type: 'string' },
  handle: { type: 'string' },
  home: { type: 'string' },
  map: { type: 'string', multiple: true, default: [] },
}

const fetchAnything = globalThis.fetch

export function subject({ pds, plc, did, handle, home, map }) {
  const origins = new Map(map.map((entry) => entry.split('=')))
  globalThis.fetch = (input, init) => {
    const url = new URL(input instanceof Request ? input.url : String(input))
    const target = origins.get(url.origin)
    return target ? fetchAnything(target + url.pathname + url.search, init) : fetchAnything(input, init)
  }
  const query = async (method, parameters = {}) => {
    const pairs = Object.entries(parameters).flatMap(([name, value]) => [value].flat().map((one) => [name, one]))
    const response = await fetch(`${pds}/xrpc/${method}?${new URLSearchParams(pairs)}`)
    const bytes = new Uint8Array(await response.arrayBuffer())
    const json = () => JSON.parse(Buffer.from(bytes).toString())
    return { status: response.status, type: response.headers.get('content-type') ?? '', bytes, json }
  }
  return {
    pds,
    did,
    handle,
    home: home ?? pds,
    identities: new IdResolver({ plcUrl: plc, fetch: globalThis.fetch }),
    query,
    latest: async () => (await query('com.atproto.sync.getLatestCommit', { did })).json(),
  }
}
