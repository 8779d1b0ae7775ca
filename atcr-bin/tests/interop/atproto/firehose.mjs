// com.atproto.sync.subscribeRepos: read by the reference consumer, and strictly by the rules of sync 1.1.
import * as cbor from '@atcute/cbor'
import { Firehose, MemoryRunner } from '@atproto/sync'
import { Stream, frames } from './events.mjs'
import { must } from './must.mjs'

export const firehoseChecks = [
  ['firehose-consumer', consumer],
  ['firehose-strict', strict],
  ['firehose-future-cursor', futureCursor],
]
const QUIET = 5000
const LIMIT = 30_000
const FUTURE = 99_999_999_999

// Two goals, one after the other: where the repo was when the stream was opened, and where it was when the stream had
// come so far. In a repo that is written meanwhile, the events between them come while the stream goes from old to new.
class Goals {
  constructor(subject) {
    this.subject = subject
    this.left = 2
  }

  async next() {
    this.rev = (await this.subject.latest()).rev
  }

  async reached(rev) {
    while (this.left && rev >= this.rev) {
      this.left -= 1
      if (this.left) await this.next()
    }
    return this.left === 0
  }
}

async function consumer(subject) {
  const goals = new Goals(subject)
  await goals.next()
  const kinds = {}
  let firehose
  let timer
  try {
    await new Promise((resolve, reject) => {
      timer = setTimeout(() => reject(new Error(`${goals.rev} was not reached in ${LIMIT} ms`)), LIMIT)
      firehose = new Firehose({
        service: subject.pds.replace(/^http/, 'ws'),
        idResolver: subject.identities,
        runner: new MemoryRunner({ startCursor: 0 }),
        handleEvent: async (event) => {
          kinds[event.event] = (kinds[event.event] ?? 0) + 1
          if (event.did === subject.did && event.rev && (await goals.reached(event.rev))) resolve()
        },
        onError: (error) => reject(new Error(`${error.message} ${error.cause ?? ''}`)),
        unauthenticatedHandles: true,
        subscriptionReconnectDelay: LIMIT,
      })
      firehose.start()
    })
  } finally {
    clearTimeout(timer)
    await Promise.race([firehose.destroy(), new Promise((resolve) => setTimeout(resolve, 500))])
  }
  return JSON.stringify(kinds)
}

async function strict(subject) {
  const goals = new Goals(subject)
  await goals.next()
  const stream = new Stream(subject.identities)
  for await (const frame of frames(subject.pds, 0, QUIET)) {
    await stream.take(frame)
    if (await goals.reached(stream.rev(subject.did))) return JSON.stringify(stream.counts)
  }
  throw new Error(`the stream ended before ${goals.rev}`)
}

async function futureCursor({ pds }) {
  for await (const frame of frames(pds, FUTURE, QUIET)) {
    const [header, rest] = cbor.decodeFirst(frame)
    const [body] = cbor.decodeFirst(rest)
    must(header.op === -1 && body.error === 'FutureCursor', JSON.stringify(body))
    return
  }
  throw new Error('nothing was sent')
}
