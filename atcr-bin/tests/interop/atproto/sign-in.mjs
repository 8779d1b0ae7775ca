// Signs in at a PDS with the reference's OAuth client, as a program on this computer, and tries out what it was given.
//
//   node sign-in.mjs --pds URL --plc URL --handle HANDLE --password PASSWORD
//
// Prints one line of JSON: what held.

import { parseArgs } from 'node:util'

import { NodeOAuthClient } from '@atproto/oauth-client-node'

import { approve } from './browser.mjs'
import { must } from './must.mjs'

const text = { type: 'string' }
const { values: options } = parseArgs({ options: { pds: text, plc: text, handle: text, password: text } })

const REDIRECT = 'http://127.0.0.1:8999/callback'
const SCOPE = 'atproto repo:com.example.note blob:application/vnd.oci.image.manifest.v1+json rpc:io.atcr.hold.getQuota?aud=*'

class Memory extends Map {
  del(key) {
    this.delete(key)
  }
}

const sessions = new Memory()
const client = new NodeOAuthClient({
  clientMetadata: {
    client_id: `http://localhost?${new URLSearchParams({ redirect_uri: REDIRECT, scope: SCOPE })}`,
    redirect_uris: [REDIRECT],
    scope: SCOPE,
    application_type: 'native',
    token_endpoint_auth_method: 'none',
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
    dpop_bound_access_tokens: true,
  },
  handleResolver: options.pds,
  plcDirectoryUrl: options.plc,
  allowHttp: true,
  fetch: globalThis.fetch,
  stateStore: new Memory(),
  sessionStore: sessions,
  requestLock: (_name, work) => work(),
})

const person = { handle: options.handle, password: options.password }
const held = []
const holds = (name, condition) => {
  must(condition, `${name} does not hold`)
  held.push(name)
}

async function signIn() {
  const url = await client.authorize(options.handle, { state: 'mine', scope: SCOPE })
  const back = await approve({ url, ...person })
  const { session, state } = await client.callback(back.searchParams, { redirect_uri: REDIRECT })
  must(state === 'mine', 'another state came back')
  return session
}

async function call(session, method, path, body, type = 'application/json') {
  const headers = body ? { 'content-type': type } : {}
  const answer = await session.fetchHandler(`/xrpc/${path}`, { method, headers, body })
  return { status: answer.status, body: await answer.json().catch(() => ({})) }
}

const write = (session, collection) =>
  call(session, 'POST', 'com.atproto.repo.putRecord',
    JSON.stringify({ repo: session.did, collection, rkey: 'oauth', record: { n: 1 } }))

const denied = await approve({ url: await client.authorize(options.handle, { scope: SCOPE }), ...person, deny: true })
holds('denial', denied.searchParams.get('error') === 'access_denied')

const session = await signIn()
const granted = (await session.getTokenInfo(false)).scope
holds('scope as asked', granted === SCOPE)
holds('getSession', (await call(session, 'GET', 'com.atproto.server.getSession')).body.did === session.did)
holds('write inside the scope', (await write(session, 'com.example.note')).status === 200)
const outside = await write(session, 'com.example.other')
holds('no write outside it', outside.status === 403 && outside.body.error === 'ScopeMissingError')
const manifest = 'application/vnd.oci.image.manifest.v1+json'
holds('upload inside it', (await call(session, 'POST', 'com.atproto.repo.uploadBlob', '{}', manifest)).status === 200)
const image = await call(session, 'POST', 'com.atproto.repo.uploadBlob', 'x', 'image/png')
holds('no upload outside it', image.status === 403)
const service = (lxm) =>
  call(session, 'GET', `com.atproto.server.getServiceAuth?aud=did:web:hold.example.com&lxm=${lxm}`)
holds('service token inside it', (await service('io.atcr.hold.getQuota')).status === 200)
holds('no service token outside it', (await service('io.atcr.hold.initiateUpload')).status === 403)

const before = sessions.get(session.did).tokenSet
const refreshed = await session.getTokenInfo(true)
const after = sessions.get(session.did).tokenSet
holds('refresh', !refreshed.expired && after.refresh_token !== before.refresh_token)
holds('write after it', (await write(session, 'com.example.note')).status === 200)

const kept = sessions.get(session.did)
await session.signOut()
holds('sign-out', !sessions.has(session.did))
// The client keeps nothing; somebody who had copied its session gets nowhere with it.
sessions.set(session.did, kept)
const revived = await client.restore(session.did, false)
holds('revoked session', await write(revived, 'com.example.note').then((answer) => answer.status === 401, () => true))

console.log(JSON.stringify(held))
