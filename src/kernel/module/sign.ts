// SPDX-License-Identifier: MIT

import { access, readFile } from 'node:fs/promises'
import { LowerwatchError } from '../../errors.js'
import { output } from '../tools.js'
import { isCode } from '../workspace.js'
import type { Headers } from './headers.js'
import type { Target } from './target.js'

/** A key that signs modules, and its certificate (X.509, DER or PEM): paths here, not on the target. */
export interface SigningKey {
  key: string
  certificate: string
}

/**
 * Where a machine keeps its key: that of DKMS, as Debian has it, and that of shim, as Ubuntu has it. A private key that
 * is there belongs to the machine's owner, who enrolled its certificate with the firmware's shim (MOK) or means to.
 */
const machineKeys: SigningKey[] = [
  { key: '/var/lib/dkms/mok.key', certificate: '/var/lib/dkms/mok.pub' },
  { key: '/var/lib/shim-signed/mok/MOK.priv', certificate: '/var/lib/shim-signed/mok/MOK.der' },
]

const variables = '/sys/firmware/efi/efivars'
const secureBoot = `${variables}/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c`
const validationOff = `${variables}/MokSBStateRT-605dab50-e046-4300-abb6-3dd810dd8b23`
/** What shim and the firmware take for a signer of modules; the kernel makes keyrings of these. */
const trusted = [
  `${variables}/MokListRT-605dab50-e046-4300-abb6-3dd810dd8b23`,
  `${variables}/db-d719b2cb-3d3a-4596-a3bc-dad00e67656f`,
]

/** Why the kernel of a machine loads only signed modules; null when it loads others too. */
export async function signatureWanted(target: Target, config: Map<string, string>): Promise<string | null> {
  if (config.get('MODULE_SIG_FORCE') === 'y') return 'the kernel loads signed modules only'
  if (config.get('MODULE_SIG') !== 'y') return null
  const text = async (path: string) => (await target.read(path))?.toString('latin1').trim()
  // Four bytes of attributes, then the value. Source: efivarfs.rst; efi_get_secureboot() for shim's own switch.
  const isSet = async (variable: string) => (await target.read(variable))?.[4] === 1
  if ((await isSet(secureBoot)) && !(await isSet(validationOff))) return 'Secure Boot is on'
  if (target.own && (await text('/sys/module/module/parameters/sig_enforce')) === 'Y')
    return 'the kernel was started with module.sig_enforce'
  const lockdown = /\[(\w+)\]/.exec((await text('/sys/kernel/security/lockdown')) ?? '')?.[1]
  if (target.own && lockdown !== undefined && lockdown !== 'none')
    return `the kernel is locked down (${lockdown})`
  return null
}

/** The key to sign with, when there has to be a signature or one is asked for. */
export interface SigningPlan {
  /** Null: not signed. */
  with: SigningKey | null
  why: string
}

/**
 * Whether a module is signed, and by which key. Where the kernel wants a signature, a module without one that it knows
 * would be refused at the next boot, and the stock module, which comes after it, would not be tried: then this says what
 * to do and nothing is installed.
 *
 * @throws LowerwatchError UNSUPPORTED_KERNEL with the way to a key that is enrolled, NO_SUCH_PATH
 */
export async function planSignature(
  target: Target,
  config: Map<string, string>,
  given: Partial<SigningKey> = {},
): Promise<SigningPlan> {
  const wanted = await signatureWanted(target, config)
  const found = await keyOf(target, given)
  if (wanted === null)
    return given.key === undefined
      ? { with: null, why: 'not signed: nothing here asks for it' }
      : { with: found, why: `signed with ${found!.key}` }
  const place = found ?? on(target, machineKeys[0]!)
  const enroll = `mokutil --import ${place.certificate}, reboot, "Enroll MOK" in the blue screen, then run this again`
  if (found === null)
    throw new LowerwatchError('UNSUPPORTED_KERNEL', `${wanted}, and this machine has no key to sign with`, {
      hint:
        `openssl req -new -x509 -newkey rsa:2048 -nodes -days 36500 -outform DER -subj "/CN=modules of this machine" ` +
        `-keyout ${place.key} -out ${place.certificate}; ${enroll}`,
    })
  if (!(await isEnrolled(target, found)))
    throw new LowerwatchError('UNSUPPORTED_KERNEL', `${wanted}, and ${found.certificate} is not enrolled`, {
      hint: enroll,
    })
  return { with: found, why: `${wanted}: signed with ${found.key}` }
}

async function keyOf(target: Target, given: Partial<SigningKey>): Promise<SigningKey | null> {
  if ((given.key === undefined) !== (given.certificate === undefined))
    throw new LowerwatchError('USAGE', 'a key and its certificate go together', { hint: '--key and --cert' })
  if (given.key !== undefined) {
    const named = { key: given.key, certificate: given.certificate! }
    for (const path of [named.key, named.certificate])
      if (!(await isThere(path))) throw new LowerwatchError('NO_SUCH_PATH', `there is no ${path}`)
    return named
  }
  for (const pair of machineKeys)
    if ((await target.has(pair.key)) && (await target.has(pair.certificate)))
      return { key: await target.path(pair.key), certificate: await target.path(pair.certificate) }
  return null
}

const on = (target: Target, { key, certificate }: SigningKey): SigningKey => ({
  key: target.at(key),
  certificate: target.at(certificate),
})

async function isThere(path: string): Promise<boolean> {
  try {
    await access(path)
    return true
  } catch (error) {
    if (isCode(error, 'ENOENT', 'ENOTDIR')) return false
    throw error
  }
}

/** Whether the firmware's lists have the certificate: they hold it in DER as it is. Source: UEFI 2.10, 32.4.1. */
async function isEnrolled(target: Target, { certificate }: SigningKey): Promise<boolean> {
  const der = derOf(await readFile(certificate))
  for (const list of trusted) if ((await target.read(list))?.includes(der)) return true
  return false
}

function derOf(certificate: Buffer): Buffer {
  const pem = /-----BEGIN CERTIFICATE-----([\s\S]*?)-----END/.exec(certificate.toString('latin1'))
  return pem ? Buffer.from(pem[1]!, 'base64') : certificate
}

/** Signs a module in place, with the program that came with the headers. */
export async function signModule(
  file: string,
  { key, certificate }: SigningKey,
  headers: Headers,
): Promise<void> {
  const hash = headers.config.get('MODULE_SIG_HASH') ?? 'sha512'
  const program = `${headers.directory}/scripts/sign-file`
  await output(program, [hash, key, certificate, file])
}
