// A browser without a window for the log-in and consent pages of our PDS: cookies, forms, no script.

import { request } from 'node:http'

import { must } from './must.mjs'

/** Walks through an authorization URL; returns where the browser is sent at last, back to the client. */
export async function approve({ url, handle, password, deny = false }) {
  const browser = new Browser(new URL(url).origin)
  let page = await browser.open(url)
  if (has(page, '/oauth/authorize/sign-in')) {
    page = await browser.submit(page, '/oauth/authorize/sign-in', { username: handle, password })
  }
  must(has(page, '/oauth/authorize/consent'), `no page to agree: ${text(page)}`)
  page = await browser.submit(page, '/oauth/authorize/consent', { decision: deny ? 'deny' : 'allow' })
  must(page.away, `not sent back to the client: ${text(page)}`)
  return page.away
}

class Browser {
  #origin
  #cookies = new Map()

  constructor(origin) {
    this.#origin = origin
  }

  async open(url) {
    return this.#go('GET', url)
  }

  async submit(page, action, filled) {
    const body = new URLSearchParams({ ...fields(page, action), ...filled }).toString()
    return this.#go('POST', `${this.#origin}${action}`, body, {
      origin: this.#origin, 'content-type': 'application/x-www-form-urlencoded' })
  }

  async #go(method, url, body, more) {
    const cookie = [...this.#cookies].map((pair) => pair.join('=')).join('; ')
    const headers = { 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document', ...(cookie && { cookie }), ...more }
    const answer = await exchange(method, url, headers, body)
    for (const line of answer.headers['set-cookie'] ?? []) {
      const [, name, value] = /^([^=]*)=([^;]*)/.exec(line)
      this.#cookies.set(name, value)
    }
    if (!answer.headers.location) return { html: answer.body }
    const target = new URL(answer.headers.location, this.#origin)
    return target.origin === this.#origin ? this.open(target) : { away: target }
  }
}

/** One request. `fetch` would say that it comes from a script, which is shown no page. */
function exchange(method, url, headers, body) {
  return new Promise((resolve, reject) => {
    const sent = request(url, { method, headers }, async (answer) => {
      const pieces = await answer.toArray().catch(reject)
      resolve({ headers: answer.headers, body: Buffer.concat(pieces ?? []).toString() })
    })
    sent.on('error', reject)
    sent.end(body)
  })
}

const has = (page, action) => page.html?.includes(`action="${action}"`)
const text = (page) => (page.html ?? String(page.away)).replace(/<[^>]*>/g, ' ').replace(/\s+/g, ' ').slice(0, 300)

/** The hidden fields of the form with this action. */
function fields(page, action) {
  const form = page.html.slice(page.html.lastIndexOf(`action="${action}"`)).split('</form>')[0]
  const hidden = form.matchAll(/<input type="hidden" name="([^"]*)" value="([^"]*)">/g)
  return Object.fromEntries([...hidden].map(([, name, value]) => [name, value.replace(/&(amp|#38);/g, '&')]))
}
