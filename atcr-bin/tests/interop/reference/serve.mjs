// The reference's PDS and PLC directory on loopback, with accounts, over restarts.
//
//   node serve.mjs --packages FOLDER --data FOLDER --pds-port N --plc-port N [--account HANDLE=PASSWORD]... [--map ORIGIN=URL]...
//
// Prints one line of JSON when it is ready and ends on SIGTERM. The first account publishes lexicons: every NSID is resolved in
// its repo, where there is no DNS. `--map` fetches an https origin (a registry's metadata and keys) from loopback. Each start
// signs access tokens with another key, so that those of before are refused, while refresh tokens live on.

import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'

const text = { type: 'string' }
const many = { ...text, multiple: true, default: [] }
const { values: options } = parseArgs({
  options: { packages: text, data: text, 'pds-port': text, 'plc-port': text, account: many, map: many },
})
const folder = resolve(options.data)
mkdirSync(`${folder}/blobs`, { recursive: true })
Object.assign(process.env, { NODE_ENV: 'development', LOG_ENABLED: 'true', LOG_LEVEL: 'info', LOG_DESTINATION: `${folder}/pds.log` })

const pair = (entry) => [entry.slice(0, entry.indexOf('=')), entry.slice(entry.indexOf('=') + 1)]
const origins = new Map(options.map.map(pair))
const fetchAnything = globalThis.fetch
globalThis.fetch = (input, init) => {
  const url = new URL(input instanceof Request ? input.url : String(input))
  const target = origins.get(url.origin)
  if (!target) return fetchAnything(input, init)
  // The PDS brings a dispatcher that refuses loopback.
  const { dispatcher: _, ...rest } = init ?? {}
  const there = target + url.pathname + url.search
  return fetchAnything(input instanceof Request ? new Request(there, input) : there, rest)
}

const { pds: pdsPackage, plc } = await import(pathToFileURL(resolve(options.packages, 'packages.mjs')))
const { PlcServer, Database } = plc.PlcServer ? plc : plc.default

const state = existsSync(`${folder}/state.json`)
  ? JSON.parse(readFileSync(`${folder}/state.json`))
  : { rotation: randomBytes(32).toString('hex'), dpop: randomBytes(32).toString('hex'), operations: [], accounts: {} }
const [pdsPort, plcPort] = [Number(options['pds-port']), Number(options['plc-port'])]
const [pdsUrl, plcUrl] = [`http://localhost:${pdsPort}`, `http://localhost:${plcPort}`]

async function json(url, body) {
  const post = body && { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }
  const answer = await fetch(url, post)
  const said = await answer.text()
  if (!answer.ok) throw new Error(`${url}: ${answer.status} ${said}`)
  return said.startsWith('{') || said.startsWith('[') ? JSON.parse(said) : said
}

// The directory keeps nothing on disk: it is told anew what it knew.
async function startDirectory() {
  const server = PlcServer.create({ db: Database.mock(), port: plcPort, version: 'interop' })
  const app = server.app
  app.listen = (port) => createServer(async (request, response) => {
    const did = request.method === 'GET' && /^\/(did:plc:[a-z2-7]{24})$/.exec(decodeURIComponent(request.url))?.[1]
    if (!did) return app(request, response)
    const answer = await fetch(`http://127.0.0.1:${port}/${did}/data`)
    const data = await answer.json()
    response.writeHead(answer.status, { 'content-type': 'application/json' })
    response.end(JSON.stringify(answer.ok ? document(data) : data))
  }).listen(port, '127.0.0.1')
  await server.start()
  for (const { did, operation } of state.operations) await json(`${plcUrl}/${did}`, operation)
}

// The form of documents that plc.directory has; the package on npm writes an older one.
const document = ({ did, alsoKnownAs, verificationMethods, services }) => ({
  '@context': ['https://www.w3.org/ns/did/v1', 'https://w3id.org/security/multikey/v1'],
  id: did,
  alsoKnownAs,
  verificationMethod: Object.entries(verificationMethods).map(([name, key]) => (
    { id: `${did}#${name}`, type: 'Multikey', controller: did, publicKeyMultibase: key.replace('did:key:', '') })),
  service: Object.entries(services).map(([name, { type, endpoint }]) => (
    { id: `#${name}`, type, serviceEndpoint: endpoint })),
})

async function startPds() {
  const settings = {
    devMode: true,
    disableSsrfProtection: true,
    port: pdsPort,
    hostname: 'localhost',
    serviceDid: `did:web:localhost%3A${pdsPort}`,
    serviceHandleDomains: ['.test'],
    dataDirectory: folder,
    blobstoreDiskLocation: `${folder}/blobs`,
    blobstoreDiskTmpLocation: `${folder}/blobs-under-way`,
    didPlcUrl: plcUrl,
    plcRotationKeyK256PrivateKeyHex: state.rotation,
    dpopSecret: state.dpop,
    jwtSecret: randomBytes(16).toString('hex'),
    adminPassword: randomBytes(16).toString('hex'),
    inviteRequired: false,
    rateLimitsEnabled: false,
    crawlers: [],
    lexiconDidAuthority: Object.values(state.accounts)[0]?.did,
  }
  const { PDS, envToCfg, envToSecrets } = pdsPackage
  const pds = await PDS.create(envToCfg(settings), envToSecrets(settings))
  const listen = pds.app.listen.bind(pds.app)
  pds.app.listen = (port, ...rest) => listen(port, '127.0.0.1', ...rest)
  // Names of accounts are looked up where they are: there is no DNS.
  pds.ctx.idResolver.handle.resolve = async (handle) => {
    const answer = await fetch(`${pdsUrl}/xrpc/com.atproto.identity.resolveHandle?handle=${handle}`)
    return answer.ok ? (await answer.json()).did : undefined
  }
  await pds.start()
  return pds
}

await startDirectory()
let pds = await startPds()
if (!state.operations.length) {
  for (const [handle, password] of options.account.map(pair)) {
    const made = { handle, password, email: `${handle.split('.')[0]}@example.com` }
    const { did } = await json(`${pdsUrl}/xrpc/com.atproto.server.createAccount`, made)
    state.accounts[handle] = { handle, did, password }
    state.operations.push(...(await json(`${plcUrl}/${did}/log`)).map((operation) => ({ did, operation })))
  }
  writeFileSync(`${folder}/state.json`, JSON.stringify(state))
  await pds.destroy()
  pds = await startPds()
}
process.on('SIGTERM', () => pds.destroy().finally(() => process.exit(0)))
console.log(JSON.stringify({ pds: pdsUrl, plc: plcUrl, accounts: Object.values(state.accounts) }))
