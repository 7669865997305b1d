// SPDX-License-Identifier: MIT

import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { release as runningRelease, tmpdir } from 'node:os'
import { dirname, resolve } from 'node:path'
import { LowerwatchError } from '../../errors.js'
import { cacheRoot } from '../cache.js'
import { output, requireRoot, requireTools } from '../tools.js'
import { alone } from './alone.js'
import { recheck, refuse } from './build.js'
import { describeCheck, type ModuleOptions, type Obtained, obtainFor } from './commands.js'
import { dkmsInstall, dkmsRemove, hasDkms, hooks, hookTexts } from './dkms.js'
import { cleanEnvironment } from './environment.js'
import { type Exchange, exchangeModule, loadedModule } from './loaded.js'
import { secureProgram } from './program.js'
import { planSignature, type SigningKey, signModule } from './sign.js'
import { type Installed, type Method, sha256, Target } from './target.js'
import { undone } from './undone.js'
import { describeUse } from './users.js'

const say = (line: string) => void process.stdout.write(`${line}\n`)
const note = (line: string) => void process.stderr.write(`${line}\n`)

export interface InstallOptions extends ModuleOptions {
  /** Another machine's root directory. */
  root?: string
  method?: Method
  key?: string
  cert?: string
  /** False: the loaded module stays. */
  load?: boolean
  /** Called by a script of the system while a kernel is installed or removed. */
  fromHook?: boolean
}

export interface InstallResult extends Installed {
  /** Why this method. */
  how: string
  signature: string
  /** Of the running kernel; null for another one. */
  running: Exchange | null
}

/**
 * Installs the module for a kernel, in the place of the one that came with it, which stays where it is.
 *
 * @throws LowerwatchError UNSUPPORTED_KERNEL (a mismatch, a signature that would not be taken), KERNEL, MISSING_TOOL,
 *   NOT_PERMITTED; nothing is changed then
 */
export async function installModule(options: InstallOptions): Promise<InstallResult> {
  const target = await open(options, 'installing a module')
  return alone(target, note, () => installOn(target, options))
}

async function installOn(target: Target, options: InstallOptions): Promise<InstallResult> {
  const { release } = target
  const given = options.key === undefined && options.cert === undefined ? {} : keyGiven(options)
  const method = await chooseMethod(target, options, given)
  await secureProgram()
  // What is written last is looked at first: nothing is to be undone then.
  for (const hook of hooks) await target.path(hook)
  const obtained = await obtainFor({ ...options, release })
  const checks = [...obtained.built.checks, ...(await recheck(obtained, target))]
  refuse(checks, release)
  // What there is to say of the signature is said below.
  for (const check of checks)
    if (check.result === 'note' && check.what !== 'signature') note(describeCheck(check))
  const signing = await planSignature(target, obtained.headers.config, given)
  const before = await target.installed()
  await uninstall(target, method.method === 'dkms' ? 'direct' : 'dkms')
  // Neither is left when the next step fails: DKMS takes the one of before away first.
  if (before?.method === 'dkms' || method.method === 'dkms') await target.forget()
  const installed =
    method.method === 'dkms'
      ? await throughDkms(target, obtained, signing.with)
      : await directly(target, obtained, signing.with)
  try {
    await target.remember(installed)
    for (const [hook, text] of hookTexts(cacheHome()))
      if (await target.has(dirname(hook))) await target.replace(hook, text, 0o755)
    const running = mayExchange(target, options) ? await exchangeModule('patched', installed.module) : null
    return { ...installed, how: method.why, signature: signing.why, running }
  } catch (error) {
    throw await undone(error, async () => {
      await uninstall(target, installed.method)
      await target.forget()
      await removeHooks(target, options)
    })
  }
}

/** What "remove" did. */
export interface RemoveResult {
  /** Null when nothing was installed. */
  removed: Installed | null
  /** There was a part of an installation that did not come to its end. */
  unfinished: boolean
  /** What modprobe takes now; null when the kernel has no overlayfs of its own. */
  stock: string | null
  running: Exchange | null
}

/**
 * Takes the module away: the one that came with the kernel is used again. What is loaded is exchanged, also when the
 * module was taken away before and could not be.
 */
export async function removeModule(options: InstallOptions): Promise<RemoveResult> {
  const target = await open(options, 'removing a module')
  return alone(target, note, () => removeFrom(target, options))
}

async function removeFrom(target: Target, options: InstallOptions): Promise<RemoveResult> {
  const removed = await target.installed()
  if (removed?.method === 'dkms' && !(await hasDkms()))
    throw new LowerwatchError('MISSING_TOOL', 'DKMS installed the module, and is gone', {
      hint: 'apt-get install dkms, and run this again',
    })
  // Without a record, too: an installation may have been ended before it wrote one.
  const found = [await uninstall(target, 'dkms'), await uninstall(target, 'direct')]
  await target.forget()
  await removeHooks(target, options)
  const stock = await target.resolved()
  const exchange = mayExchange(target, options) && (await loadedModule()) === 'patched'
  const unfinished = removed === null && found.includes(true)
  return { removed, unfinished, stock, running: exchange ? await exchangeModule('stock', stock) : null }
}

function mayExchange({ own, release }: Target, { load, fromHook }: InstallOptions): boolean {
  return own && release === runningRelease() && load !== false && fromHook !== true
}

async function open(options: InstallOptions, what: string): Promise<Target> {
  const { root = '/', release = runningRelease() } = options
  if (resolve(root) === '/') requireRoot(what)
  const target = await Target.open(root, release)
  await requireTools('depmod', 'modprobe', 'rmmod')
  return target
}

function keyGiven({ key, cert }: InstallOptions): Partial<SigningKey> {
  return { ...(key === undefined ? {} : { key }), ...(cert === undefined ? {} : { certificate: cert }) }
}

async function chooseMethod(
  target: Target,
  { method }: InstallOptions,
  given: Partial<SigningKey>,
): Promise<{ method: Method; why: string }> {
  const usage = (message: string, hint: string) => new LowerwatchError('USAGE', message, { hint })
  if (method === 'dkms' && !target.own)
    throw usage('DKMS works on the machine that it runs on', 'leave --root or --method out')
  if (method === 'dkms' && given.key !== undefined)
    throw usage('DKMS signs with a key of its own', 'name it in /etc/dkms/framework.conf')
  const there = target.own && (await hasDkms())
  if (method === 'dkms' && !there)
    throw new LowerwatchError('MISSING_TOOL', 'not installed: dkms', { hint: 'apt-get install dkms' })
  if (method === 'direct') return { method, why: 'as asked' }
  if (!target.own) return { method: 'direct', why: 'in another root' }
  if (given.key !== undefined) return { method: 'direct', why: 'with a key that was given' }
  return there ? { method: 'dkms', why: 'by DKMS' } : { method: 'direct', why: 'DKMS is not installed' }
}

async function throughDkms(
  target: Target,
  { built, headers }: Obtained,
  key: SigningKey | null,
): Promise<Installed> {
  const { release } = target
  const module = await dkmsInstall(target, headers, cacheHome())
  // DKMS signs with the key that it is told, or goes on without.
  if (key && (await output('modinfo', ['-F', 'sig_id', await target.path(module)])).trim() === '') {
    await dkmsRemove(target)
    throw new LowerwatchError('KERNEL', 'DKMS did not sign the module', {
      hint: `it needs linux-headers-${release} installed (see /etc/dkms/framework.conf); or use --method direct`,
    })
  }
  const certificate = key?.certificate ?? null
  return { release, method: 'dkms', module, sha256: null, source: built.source, certificate }
}

/** Into a directory that depmod searches before that of the kernel's own modules. */
async function directly(
  target: Target,
  { built, headers }: Obtained,
  key: SigningKey | null,
): Promise<Installed> {
  const content = await signed(await readFile(built.module), key, headers)
  const module = target.modulePath
  const before = await target.read(module)
  await target.replace(module, content)
  try {
    await target.depmod()
    const first = await target.resolved()
    if (first !== module)
      throw new LowerwatchError('KERNEL', `modprobe would load ${first}, not ${module}`, {
        hint: 'depmod.d(5) of this machine does not search "updates" first',
      })
  } catch (error) {
    throw await undone(error, async () => {
      if (before === null) return target.withdraw()
      await target.replace(module, before)
      await target.depmod()
    })
  }
  const certificate = key?.certificate ?? null
  const { release } = target
  return { release, method: 'direct', module, sha256: sha256(content), source: built.source, certificate }
}

async function signed(
  content: Buffer,
  key: SigningKey | null,
  headers: Obtained['headers'],
): Promise<Buffer> {
  if (key === null) return content
  const work = await mkdtemp(`${tmpdir()}/lowerwatch-sign-`)
  try {
    await writeFile(`${work}/overlay.ko`, content)
    await signModule(`${work}/overlay.ko`, key, headers)
    return await readFile(`${work}/overlay.ko`)
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

/** Takes away what one way of installing has put there, all of it or the part that it came to; false when there was none. */
async function uninstall(target: Target, method: Method): Promise<boolean> {
  if (method === 'dkms') return target.own && (await hasDkms()) ? dkmsRemove(target) : false
  if (!(await target.has(target.modulePath))) return false
  await target.withdraw()
  return true
}

/** With the last module; a kernel that goes leaves them for the next one. */
async function removeHooks(target: Target, { fromHook }: InstallOptions): Promise<void> {
  if (fromHook === true || (await target.has('/var/lib/lowerwatch/modules'))) return
  for (const hook of hooks) await target.remove(hook)
}

/** $XDG_CACHE_HOME as it is now. */
const cacheHome = () => dirname(dirname(resolve(cacheRoot())))

export async function install(options: InstallOptions): Promise<void> {
  cleanEnvironment()
  const done = await installModule(options)
  if (options.json) return say(JSON.stringify(done, null, 2))
  say(`installed ${done.module} (${done.method}: ${done.how})`)
  say(done.signature)
  for (const line of describeExchange(done.running, 'patched', options)) say(line)
}

export async function remove(options: InstallOptions): Promise<void> {
  cleanEnvironment()
  const done = await removeModule(options)
  if (options.json) return say(JSON.stringify(done, null, 2))
  const left = done.unfinished ? 'removed what an unfinished installation left' : 'nothing is installed'
  say(done.removed ? `removed ${done.removed.module}` : left)
  if (done.removed === null && !done.unfinished && done.running === null) return
  say(done.stock === null ? 'the kernel has no overlayfs of its own' : `modprobe takes ${done.stock}`)
  for (const line of describeExchange(done.running, 'stock', options)) say(line)
}

/** What is loaded now, what holds it, and what a reboot will change. */
export function describeExchange(
  running: Exchange | null,
  wanted: 'stock' | 'patched',
  { release = runningRelease() }: InstallOptions,
): string[] {
  const loss =
    wanted === 'stock' ? ['a mount with lower_changes fails with the stock overlayfs: see fstab'] : []
  if (running === null) return [`the next boot of Linux ${release} loads the ${wanted} overlayfs`, ...loss]
  if (running.use)
    return [
      `the ${running.loaded} overlayfs is in use and stays loaded:`,
      ...describeUse(running.use).map((line) => `  ${line}`),
      `a reboot loads the ${wanted} one; so does this command again, when nothing holds it`,
      ...loss,
    ]
  if (running.loaded === 'none')
    return [`overlayfs is not loaded: the next mount loads the ${wanted} one`, ...loss]
  return [`the ${running.loaded} overlayfs is loaded`, ...loss]
}
