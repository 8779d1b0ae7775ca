// Goes through the pages in Chromium as a person does: allows a device, revokes it, signs out.
//
//   node chromium.mjs --browser PATH --handle HANDLE --password PASSWORD --pictures FOLDER LINK
//
// LINK is what `docker-credential-atcr login` prints. Prints one line of JSON: what held.

import { parseArgs } from 'node:util'

import { chromium } from 'playwright-core'

import { must } from './must.mjs'

const text = { type: 'string' }
const { values: options, positionals: [link] } = parseArgs({
  options: { browser: text, handle: text, password: text, pictures: text }, allowPositionals: true })

const browser = await chromium.launch({ executablePath: options.browser, args: ['--no-sandbox', '--disable-dev-shm-usage'] })
const page = await browser.newPage({ locale: 'en-US', viewport: { width: 390, height: 844 } })
page.setDefaultTimeout(20_000)
const complaints = []
page.on('console', (message) => message.type() === 'error' && complaints.push(`${page.url()}: ${message.text()}`))
page.on('pageerror', (error) => complaints.push(`${page.url()}: ${error.message}`))

const held = []
const holds = async (name, condition) => {
  must(condition, `${name} does not hold at ${page.url()}: ${(await page.locator('body').innerText()).slice(0, 300)}`)
  await page.screenshot({ path: `${options.pictures}/${String(held.length).padStart(2, '0')}.png` })
  // What a screen reader has: one heading, and a name for each field and button.
  must(await page.locator('h1').count() === 1, `${name}: one heading`)
  for (const control of await page.locator('input:visible, button:visible').all()) {
    const name = await control.evaluate((it) => it.ariaLabel || it.labels?.[0]?.innerText || it.innerText)
    must(name?.trim(), `a control without a name at ${page.url()}`)
  }
  const wide = await page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth)
  must(!wide, `the page is wider than a telephone: ${page.url()}`)
  held.push(name)
}
const heading = () => page.locator('h1').innerText()
const press = (name) => page.getByRole('button', { name, exact: true }).click()

try {
  const registry = new URL(link).origin
  const code = new URL(link).searchParams.get('user_code')
  await page.goto(link)
  await holds('nobody is signed in', await heading() === 'Sign in')
  await page.getByLabel('Handle').fill(`@${options.handle}`)
  await press('Continue')
  await page.getByLabel('Password').waitFor()
  await holds('the server of the account asks for the password', new URL(page.url()).origin !== registry)
  await page.getByLabel('Password').fill('wrong')
  await press('Log in')
  await page.getByRole('alert').waitFor()
  await holds('a wrong password is said', await heading() === 'Log in')
  await page.getByLabel('Password').fill(options.password)
  await press('Log in')
  await page.getByRole('button', { name: 'Deny' }).waitFor()
  await holds('it asks for consent', (await heading()).startsWith('Allow access'))
  await press('Allow')
  await page.waitForURL(`${registry}/device?**`)
  await holds('back where the link led', (await page.locator('body').innerText()).includes(code))
  const cookies = (await page.context().cookies(registry)).filter(({ name }) => name.includes('session'))
  await holds('the cookie is for no script', cookies.length === 1 && cookies[0].httpOnly && cookies[0].sameSite === 'Lax')
  await press('Allow')
  await page.getByRole('status').waitFor()
  await holds('the device is allowed', await heading() === 'Device allowed')
  await page.goto(`${registry}/device?user_code=${code}`)
  await holds('a code is good once', await page.getByRole('alert').isVisible())
  // The device fetches its secret in its own time.
  await page.goto(`${registry}/auth/devices`)
  for (let tries = 0; !(await page.getByRole('button').count()) && tries < 50; tries++) {
    await page.waitForTimeout(200)
    await page.reload()
  }
  await holds('the device is listed', await page.getByRole('button', { name: 'Revoke interop bench' }).isVisible())
  await page.getByRole('button', { name: 'Revoke interop bench' }).click()
  await page.getByText('There are none').waitFor()
  await holds('it is revoked', !(await page.getByRole('button').count()))
  await page.goto(`${registry}/auth/account`)
  await press('Sign out')
  await page.waitForURL(`${registry}/auth/logout`)
  await page.goto(`${registry}/auth/account`)
  await holds('signed out', await heading() === 'Sign in')
  // A page that is not there any more, and a code that is none, are complaints of ours about ourselves.
  const serious = complaints.filter((text) => !/status of 40[04]/.test(text))
  must(!serious.length, `the browser complains: ${serious.join('; ')}`)
  held.push('no complaint of the browser')
} finally {
  await browser.close()
}
console.log(JSON.stringify(held))
