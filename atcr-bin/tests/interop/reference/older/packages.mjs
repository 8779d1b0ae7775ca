export * as pds from '@atproto/pds'
export * as plc from '@did-plc/server'
