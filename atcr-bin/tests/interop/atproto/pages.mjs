// Looks at pages in Chromium: light and dark, on a desk and on a telephone, with and without JavaScript.
//
//   node pages.mjs --browser PATH --pictures FOLDER < PLAN
//
// PLAN is JSON: the registry's URL, a handle and its password, and pages by name, for anybody (`pages`) and for whoever is
// signed in (`signedIn`). Prints one line of JSON: the faults, how many views there were, the largest and the slowest page.

import { text } from 'node:stream/consumers'
import { parseArgs } from 'node:util'

import { chromium } from 'playwright-core'

import { SCHEMES, SCREENS, inspect, signIn, watch } from './screens.mjs'

const { values: options } = parseArgs({ options: { browser: { type: 'string' }, pictures: { type: 'string' } } })
const plan = JSON.parse(await text(process.stdin))

const BYTES = 100_000

const faults = []
const fault = (where, what) => faults.push(`${where}: ${what}`)
const quickest = new Map()
let views = 0
let largest = { bytes: 0 }

const browser = await chromium.launch({ executablePath: options.browser, args: ['--no-sandbox', '--disable-dev-shm-usage'] })
try {
  await look(plan.pages)
  if (Object.keys(plan.signedIn).length) await look(plan.signedIn, await signedIn())
} finally {
  await browser.close()
}
const slowest = [...quickest].map(([name, ms]) => ({ name, ms })).reduce((a, b) => (a.ms > b.ms ? a : b))
console.log(JSON.stringify({ faults, views, largest, slowest }))

/** Looks at pages on every screen; as nobody, or with the cookies of somebody. */
async function look(pages, storageState) {
  for (const [screen, shape] of Object.entries(SCREENS)) {
    for (const colorScheme of SCHEMES) {
      const context = await browser.newContext({ locale: 'en-US', ...shape, colorScheme, storageState })
      for (const [name, path] of Object.entries(pages)) await view(context, name, path, `${screen}-${colorScheme}`)
      await context.close()
    }
  }
  const plain = await browser.newContext({ locale: 'en-US', javaScriptEnabled: false, storageState })
  const full = await browser.newContext({ locale: 'en-US', storageState })
  for (const [name, path] of Object.entries(pages)) {
    const [without, having] = [await words(plain, path), await words(full, path)]
    if (without !== having) fault(name, 'it is another one without JavaScript')
  }
  await plain.close()
  await full.close()
}

async function view(context, name, path, how) {
  const where = `${name} ${how}`
  const page = await context.newPage()
  page.setDefaultTimeout(20_000)
  const answers = []
  page.on('response', (answer) => answers.push(answer))
  // A page of an error has the status of one, which the browser says, too.
  const own = (url) => url === plan.registry + path && name.startsWith('error-')
  await watch(page, plan.registry, (what) => fault(where, what), own)
  const answer = await page.goto(plan.registry + path)
  const [status, is] = [answer.status(), name.startsWith('error-')]
  if (is ? status < 400 : status !== 200) fault(where, `status ${status}`)
  if (!answer.headers()['content-security-policy']?.includes("default-src 'none'")) fault(where, 'no strict policy')

  const { requestStart, responseStart } = answer.request().timing()
  quickest.set(name, Math.min(quickest.get(name) ?? Infinity, responseStart - requestStart))
  let bytes = 0
  for (const answer of answers) {
    // What waits for changes does not end.
    const waits = answer.headers()['content-type']?.startsWith('text/event-stream')
    if (!waits) bytes += (await answer.body().catch(() => '')).length
  }
  if (bytes > BYTES) fault(where, `${bytes} bytes`)
  if (bytes > largest.bytes) largest = { name, bytes }

  await inspect(page, `${options.pictures}/${name}-${how}.png`, (what) => fault(where, what))
  views += 1
  await page.close()
}

/** What there is to read and to follow. */
async function words(context, path) {
  const page = await context.newPage()
  await page.goto(plan.registry + path)
  const main = page.locator('main')
  const links = await main.locator('a').evaluateAll((links) => links.map((link) => link.getAttribute('href')))
  // The button that copies is a convenience, and times go by.
  const said = (await main.innerText()).replace(/\bCopy\b/g, '').replace(/\d+ \w+ ago|just now/g, '').replace(/\s+/g, ' ').trim()
  await page.close()
  return JSON.stringify({ said, links })
}

/** The cookies of a browser that is signed in. */
async function signedIn() {
  const context = await browser.newContext({ locale: 'en-US' })
  const page = await context.newPage()
  page.setDefaultTimeout(20_000)
  await page.goto(`${plan.registry}/auth/account`)
  await signIn(page, plan)
  await page.waitForURL(`${plan.registry}/auth/account`)
  const state = await context.storageState()
  await context.close()
  return state
}
