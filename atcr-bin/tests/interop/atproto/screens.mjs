// What the scripts that look at pages in Chromium have in common.

import axe from 'axe-core'

export const SCREENS = {
  desk: { viewport: { width: 1280, height: 800 } },
  telephone: { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true },
}
export const SCHEMES = ['light', 'dark']

/** Tells `fault` of whatever a page complains about and whomever else it asks; not of failures of addresses that are `own`. */
export async function watch(page, registry, fault, own = () => false) {
  page.on('pageerror', (error) => fault(error.message))
  page.on('dialog', (dialog) => { fault(`a dialog: ${dialog.message()}`); dialog.dismiss() })
  page.on('console', (message) => {
    if (message.type() === 'error' && !own(message.location().url)) fault(message.text())
  })
  page.on('request', (request) => {
    if (new URL(request.url()).origin !== registry) fault(`it asks for ${request.url()}`)
  })
  await page.addInitScript(() => {
    window.violations = []
    addEventListener('securitypolicyviolation', ({ blockedURI, violatedDirective }) =>
      window.violations.push(`${violatedDirective} ${blockedURI}`))
  })
}

/** Takes a picture of a page, and tells `fault` what is wrong with it. */
export async function inspect(page, picture, fault) {
  await page.screenshot({ path: picture, fullPage: true })
  const state = await page.evaluate(() => ({
    attacked: window.attacked,
    violations: window.violations ?? [],
    headings: document.querySelectorAll('h1').length,
    wide: document.documentElement.scrollWidth > document.documentElement.clientWidth,
    links: [...document.links].map((link) => link.protocol),
  }))
  if (state.attacked) fault(`what a stranger wrote was run: ${state.attacked}`)
  for (const violation of state.violations) fault(`against the policy: ${violation}`)
  for (const scheme of state.links) if (!/^(https?|mailto):$/.test(scheme)) fault(`a link to ${scheme}`)
  if (state.headings !== 1) fault(`${state.headings} headings of the first rank`)
  if (state.wide) fault('wider than the screen')
  await page.evaluate(axe.source)
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }))
  for (const { id, impact, help, nodes } of violations) {
    const found = `axe ${impact} ${id}: ${help}: ${nodes[0].html.slice(0, 160)}`
    if (['serious', 'critical'].includes(impact)) fault(found)
    else console.error(`${page.url()}: ${found}`)
  }
}

/** From the page that asks who somebody is, over their server, and back. */
export async function signIn(page, { registry, handle, password }) {
  const press = (name) => page.getByRole('button', { name, exact: true }).click()
  await page.getByLabel('Handle').fill(handle)
  await press('Continue')
  await page.getByLabel('Password').fill(password)
  await press('Log in')
  // A server may remember who was let in before.
  const back = page.waitForURL((url) => url.origin === registry)
  const asks = page.getByRole('button', { name: 'Allow', exact: true })
  await Promise.race([back, asks.waitFor()])
  if (new URL(page.url()).origin !== registry) await asks.click()
  await back
}
