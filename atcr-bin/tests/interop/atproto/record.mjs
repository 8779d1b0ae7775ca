// Reads a record as anybody can, and proves that its owner has signed it.
//
//   node record.mjs --pds URL --plc URL --did DID COLLECTION/RKEY
//
// Prints the record.

import { parseArgs } from 'node:util'

import { IdResolver } from '@atproto/identity'
import { verifyRecords } from '@atproto/repo'

import { must } from './must.mjs'

const text = { type: 'string' }
const { values: options, positionals } = parseArgs({ options: { pds: text, plc: text, did: text }, allowPositionals: true })
const [collection, rkey] = positionals[0].split('/')
const key = await new IdResolver({ plcUrl: options.plc, fetch: globalThis.fetch }).did.resolveAtprotoKey(options.did, true)
const query = new URLSearchParams({ did: options.did, collection, rkey })
const answer = await fetch(`${options.pds}/xrpc/com.atproto.sync.getRecord?${query}`)
must(answer.ok, `getRecord: ${answer.status}`)
const found = await verifyRecords(new Uint8Array(await answer.arrayBuffer()), options.did, key)
const mine = found.find((record) => record.collection === collection && record.rkey === rkey)
must(mine, `${positionals[0]} is not proven`)
console.log(JSON.stringify(mine.record, (_, value) => (value?.asCID === value && value ? { $link: String(value) } : value)))
process.exit(0)
