// A browser without a window for the log-in and consent pages of our PDS: cookies, forms, no script.

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
    return this.#follow(await this.#fetch(url, {}))
  }

  async submit(page, action, filled) {
    const body = new URLSearchParams({ ...fields(page, action), ...filled })
    return this.#follow(await this.#fetch(`${this.#origin}${action}`, { method: 'POST', body }))
  }

  async #fetch(url, request) {
    const cookie = [...this.#cookies].map((pair) => pair.join('=')).join('; ')
    const headers = { ...(cookie && { cookie }), ...(request.method && { origin: this.#origin }) }
    // `fetch` puts a sec-fetch-mode of its own there; a page is for navigations only.
    headers['sec-fetch-mode'] = 'navigate'
    const answer = await fetch(url, { ...request, headers, redirect: 'manual' })
    for (const line of answer.headers.getSetCookie()) {
      const [name, value] = line.split(';')[0].split(/=(.*)/)
      this.#cookies.set(name, value)
    }
    return answer
  }

  async #follow(answer) {
    const location = answer.headers.get('location')
    if (!location) return { html: await answer.text() }
    const target = new URL(location, this.#origin)
    return target.origin === this.#origin ? this.open(target) : { away: target }
  }
}

const has = (page, action) => page.html?.includes(`action="${action}"`)
const text = (page) => (page.html ?? String(page.away)).replace(/<[^>]*>/g, ' ').replace(/\s+/g, ' ').slice(0, 300)

/** The hidden fields of the form with this action. */
function fields(page, action) {
  const form = page.html.slice(page.html.lastIndexOf(`action="${action}"`)).split('</form>')[0]
  const hidden = form.matchAll(/<input type="hidden" name="([^"]*)" value="([^"]*)">/g)
  return Object.fromEntries([...hidden].map(([, name, value]) => [name, value.replace(/&(amp|#38);/g, '&')]))
}
