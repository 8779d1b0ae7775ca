// Does in Chromium what people do who are signed in, on every screen: signs in, searches, stars, edits, sets, moves back,
// deletes, lets a device in, and signs out.
//
//   node walk.mjs --browser PATH --pictures FOLDER < PLAN
//
// PLAN is JSON: the registry's URL, a handle and its password, and for each screen (`desk-light`) a repository that the
// walk changes: its name, where the tag `v1` was before, and a manifest without a tag. Prints one line of JSON: the
// faults, and how many things hold.

import { text } from 'node:stream/consumers'
import { parseArgs } from 'node:util'

import { chromium } from 'playwright-core'

import { must } from './must.mjs'
import { SCHEMES, SCREENS, inspect, signIn, watch } from './screens.mjs'

const { values: options } = parseArgs({ options: { browser: { type: 'string' }, pictures: { type: 'string' } } })
const plan = JSON.parse(await text(process.stdin))
const PICTURE = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==', 'base64')

const faults = []
let held = 0

const browser = await chromium.launch({ executablePath: options.browser, args: ['--no-sandbox', '--disable-dev-shm-usage'] })
try {
  for (const [screen, shape] of Object.entries(SCREENS)) {
    for (const colorScheme of SCHEMES) {
      const context = await browser.newContext({ locale: 'en-US', ...shape, colorScheme })
      await walk(context, `${screen}-${colorScheme}`)
      await context.close()
    }
  }
} finally {
  await browser.close()
}
console.log(JSON.stringify({ faults, held }))

async function walk(context, how) {
  const { registry, handle, repositories: { [how]: repository } } = plan
  const { name, before, now, untagged } = repository
  const own = `${registry}/r/${handle}/${name}`
  let step = 'sign in'
  const fault = (what) => faults.push(`${step} ${how}: ${what}`)
  const page = await context.newPage()
  page.setDefaultTimeout(20_000)
  const button = (name) => page.getByRole('button', { name, exact: true })
  const link = (name) => page.getByRole('link', { name, exact: true })
  const row = (text) => page.getByRole('row').filter({ hasText: text })
  const holds = async (what, condition) => {
    must(condition, `${step} ${how}: ${what} does not hold at ${page.url()}: ${(await page.locator('body').innerText()).slice(0, 300)}`)
    held += 1
  }
  const done = () => inspect(page, `${options.pictures}/walk-${step.replaceAll(' ', '-')}-${how}.png`, fault)

  // The server of the account has pages of its own, which are looked at elsewhere.
  await page.goto(registry)
  await link('Sign in').click()
  await signIn(page, plan)
  await watch(page, registry, fault)
  await page.reload()
  await holds('the name of whoever is signed in', await link(handle).isVisible())
  await done()

  step = 'search'
  await page.getByRole('searchbox').fill(name.split('/').at(-1))
  await page.getByRole('searchbox').press('Enter')
  await page.waitForURL(`${registry}/search?**`)
  await done()
  await page.locator(`a[href="${new URL(own).pathname}"]`).click()
  await page.waitForURL(own)
  await holds('the repository that was found', (await page.locator('h1').innerText()).includes(name))

  step = 'star'
  await button('☆ Star').click()
  await button('★ Unstar').waitFor()
  await holds('the star', await page.getByText('1 star', { exact: true }).isVisible())
  await done()
  step = 'unstar'
  await button('★ Unstar').click()
  await button('☆ Star').waitFor()
  await holds('no star', await page.getByText('0 stars', { exact: true }).isVisible())

  step = 'edit'
  await link('Edit page').click()
  await page.getByLabel('Description').fill(`## Written on a ${how}\n\nIn **Markdown**.`)
  await page.locator('input[name=avatar]').setInputFiles({ name: 'a.png', mimeType: 'image/png', buffer: PICTURE })
  await done()
  await button('Save').click()
  await page.waitForURL(own)
  await holds('the description', await page.getByRole('heading', { name: `Written on a ${how}` }).isVisible())
  const seen = await page.locator('img.avatar').evaluate((picture) => picture.decode().then(() => picture.naturalWidth))
  await holds('the picture', seen === 1)
  step = 'edited'
  await done()

  step = 'settings'
  await link('Settings').click()
  await page.getByLabel('client').selectOption('podman')
  await button('Save').click()
  await page.getByRole('status').waitFor()
  await done()
  await page.goto(own)
  await holds('the client that was chosen', (await page.locator('pre code').first().innerText()).startsWith('podman pull '))
  await link('Settings').click()
  await page.getByLabel('client').selectOption('docker')
  await button('Save').click()
  await page.getByRole('status').waitFor()

  step = 'move back'
  await page.goto(own)
  await link('History').click()
  const short = (digest) => digest.split(':')[1].slice(0, 12)
  const move = row('v1').filter({ hasText: short(before) }).last()
  await move.locator('summary').click()
  await done()
  await move.getByRole('button').click()
  await page.waitForURL(/view=history/)
  await page.waitForFunction((to) => document.querySelector('tbody tr').innerText.includes(to), short(before))
  await holds('where the tag is', (await tags(own)).v1 === before)

  step = 'delete a tag'
  await link('Tags').click()
  await row('old').locator('summary').click()
  await done()
  await button('Delete the tag old').click()
  await row('old').waitFor({ state: 'detached' })
  await holds('the tag is gone', !('old' in await tags(own)))

  step = 'delete a manifest'
  await link('Manifests').click()
  await page.locator(`a[title="${untagged}"]`).click()
  await page.waitForURL(`**@${untagged}`)
  await done()
  await button('Delete this manifest').click()
  await page.waitForURL(/view=manifests/)
  await holds('the manifest is gone', !await page.locator(`a[title="${untagged}"]`).count())
  step = 'delete a manifest with its tag'
  await page.locator(`a[title="${before}"]`).click()
  await page.getByLabel('with the tags').check()
  await done()
  await button('Delete this manifest').click()
  await page.waitForURL(/view=manifests/)
  await holds('what else there was stays', await page.locator(`a[title="${now}"]`).isVisible())
  await holds('its tag is gone', !('v1' in await tags(own)))

  step = 'let a device in'
  const device = `walker of ${how}`
  const asked = await post(`${registry}/auth/device/code`, { device_name: device })
  await page.goto(asked.verification_uri_complete)
  await done()
  await button('Allow').click()
  await page.getByRole('status').waitFor()
  const { device_secret: secret } = await post(`${registry}/auth/device/token`, { device_code: asked.device_code })
  await holds('the device has its secret', secret?.length > 20)
  step = 'devices'
  await page.goto(`${registry}/auth/devices`)
  await done()
  await button(`Revoke ${device}`).click()
  await button(`Revoke ${device}`).waitFor({ state: 'detached' })
  await holds('the device is revoked', true)

  step = 'sign out'
  await page.goto(registry)
  await button('Sign out').click()
  await page.waitForURL(`${registry}/auth/logout`)
  await page.goto(registry)
  await holds('nobody is signed in', await link('Sign in').isVisible())
  await done()
}

async function post(url, body) {
  const answer = await fetch(url, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) })
  return answer.json()
}

/** Where the tags of a repository are, as the registry says. */
async function tags(page) {
  const [, , owner, ...name] = new URL(page).pathname.split('/')
  const query = new URLSearchParams({ owner, repository: name.join('/') })
  const { items } = await (await fetch(`${new URL(page).origin}/api/v1/tags?${query}`)).json()
  return Object.fromEntries(items.map(({ tag, digest }) => [tag, digest]))
}
