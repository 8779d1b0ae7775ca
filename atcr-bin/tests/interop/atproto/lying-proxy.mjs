// A proxy that lies in one respect, for judges outside of this directory.
//
//   node lying-proxy.mjs UPSTREAM LIE
//
// LIE is one of `lies.mjs`, or `nothing`. Prints its address when ready; ends on SIGTERM.
import { lying } from './lies.mjs'

const [, , upstream, lie] = process.argv
console.log((await lying(upstream, lie)).url)
process.on('SIGTERM', () => process.exit(0))
