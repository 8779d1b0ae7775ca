// What a PDS says about itself and about repositories in general.
import { CID } from 'multiformats/cid'
import { isValidDid, isValidTid } from '@atproto/syntax'
import { must } from './must.mjs'

export const serverChecks = [
  ['describe-server', describeServer],
  ['list-repos', listRepos],
  ['unknown-repo', unknownRepo],
  ['handle', handle],
]

async function describeServer({ query }) {
  const answer = await query('com.atproto.server.describeServer')
  must(answer.status === 200, answer.status)
  must(isValidDid(answer.json().did), 'no did')
}

async function listRepos({ query, did }) {
  const answer = await query('com.atproto.sync.listRepos', { limit: 1000 })
  must(answer.status === 200, answer.status)
  const repos = answer.json().repos
  for (const repo of repos) {
    must(isValidDid(repo.did) && isValidTid(repo.rev), `did or rev: ${JSON.stringify(repo)}`)
    must(typeof repo.active === 'boolean', 'active')
    CID.parse(repo.head)
  }
  must(repos.some((repo) => repo.did === did && repo.active), `${did} is not listed as active`)
  return `${repos.length} repos`
}

async function unknownRepo({ query }) {
  for (const method of ['getRepo', 'getLatestCommit', 'getRepoStatus']) {
    const answer = await query(`com.atproto.sync.${method}`, { did: 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa' })
    must(answer.status >= 400 && answer.json().error === 'RepoNotFound', `${method}: ${answer.status}`)
  }
}

// The handle leads to the DID, and the DID's document leads back.
async function handle({ query, did, handle, identities }) {
  if (!handle) return 'no handle to check'
  const answer = await query('com.atproto.identity.resolveHandle', { handle })
  must(answer.status === 200 && answer.json().did === did, `${handle}: ${answer.status}`)
  const document = await identities.did.resolve(did, true)
  must(document.alsoKnownAs.includes(`at://${handle}`), `the document names ${document.alsoKnownAs}`)
}
