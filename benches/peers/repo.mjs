// The figures of benches/pds_engine.rs for @atproto/repo, in memory.
// Usage: node repo.mjs FILE.car
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { Secp256k1Keypair } from '@atproto/crypto'
import { MemoryBlockstore, Repo, WriteOpAction, getFullRepo, readCarWithRoot } from '@atproto/repo'

// A tenth of what the others make: enough to know the rate.
const COMMITS = 2_000
const collection = 'io.atcr.hold.layer'

const rkey = (n) => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(n)
  return createHash('sha256').update(bytes).digest('hex')
}

const record = (n) => ({
  $type: collection,
  digest: `sha256:${rkey(n)}`,
  size: 123456789,
  mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
  userDid: 'did:plc:ewvi7nxzyoun6zhxrhs64oiz',
  createdAt: '2026-11-20T21:43:48.449Z',
})

const clock = () => {
  const [wall, cpu] = [performance.now(), process.cpuUsage()]
  return () => {
    const used = process.cpuUsage(cpu)
    return { wall: (performance.now() - wall) / 1e3, cpu: (used.user + used.system) / 1e6 }
  }
}
const seconds = ({ wall, cpu }) => `${wall.toFixed(2)} s (${cpu.toFixed(2)} CPU s)`
const peak = () => `${(process.resourceUsage().maxRSS / 1024).toFixed(0)} MiB`

const keypair = await Secp256k1Keypair.import('07'.repeat(32))
const storage = new MemoryBlockstore()
let repo = await Repo.create(storage, 'did:web:hold.example.com', keypair)
let stop = clock()
for (let n = 0; n < COMMITS; n++) {
  const write = { action: WriteOpAction.Create, collection, rkey: rkey(n), record: record(n) }
  repo = await repo.applyWrites(write, keypair)
}
let time = stop()
const each = ((time.cpu / COMMITS) * 1e6).toFixed(0)
console.log(`memory: ${(COMMITS / time.wall).toFixed(0)} commits/s (${each} CPU µs each)`)

stop = clock()
const { root, blocks } = await readCarWithRoot(readFileSync(process.argv[2]))
const imported = new MemoryBlockstore(blocks)
const loaded = await Repo.load(imported, root)
let records = 0
for await (const _ of loaded.walkRecords()) records++
console.log(`import: ${records} records in ${seconds(stop())}, ${peak()}`)

stop = clock()
let bytes = 0
for await (const chunk of getFullRepo(imported, root)) bytes += chunk.length
console.log(`export: ${Math.floor(bytes / 1e6)} MB in ${seconds(stop())}, ${peak()}`)
