// SPDX-License-Identifier: MIT

import { type Command, InvalidArgumentError, Option } from 'commander'
import type { DebugVariant, Target } from '../kernel/configs.js'
import type { InstallOptions } from '../kernel/module/install.js'
import type { SeriesChoice } from '../kernel/select.js'
import { leaveOutputErrors } from './output.js'

interface TreeOptions {
  tree?: string
  json?: boolean
}
interface ListOptions extends TreeOptions {
  messages?: boolean
}
interface ApplyOptions extends TreeOptions {
  series: SeriesChoice
  dryRun?: boolean
  reverse?: boolean
}
interface RefreshOptions extends TreeOptions {
  dryRun?: boolean
}
interface ModuleOptions extends TreeOptions {
  release?: string
}
interface ModuleBuildOptions extends ModuleOptions {
  output?: string
}
interface BuildOptions extends TreeOptions {
  target: Target
  debug?: DebugVariant
  version?: string
  series: SeriesChoice
  stock?: boolean
}
interface BootOptions extends BuildOptions {
  memory: string
  append: string[]
}

/**
 * Adds `lowerwatch kernel …`. What the commands run is loaded when one is called.
 *
 * Exit status: 0 fine; 1 the answer is no (a patch does not apply or is not in); 2 something is missing. `boot` ends with
 * the status of its command, and with 2 when there is none.
 */
export function registerKernel(program: Command): void {
  // Without this `kernel boot --version V` would be taken for the program's own --version.
  program.enablePositionalOptions()
  const kernel = program.command('kernel').description('the kernel patch series: pick, apply, build, boot')

  kernel
    .command('list')
    .description(
      'the series of each kernel version, what each patch does, what a tree or the running kernel has',
    )
    .option('--tree <dir>', 'also say what this kernel source has of them')
    .option('--messages', 'with the whole message of each patch: why, and how')
    .option('--json', 'for programs')
    .action(async (options: ListOptions) => (await import('../kernel/list.js')).list(options))

  kernel
    .command('fetch')
    .description("take a kernel's source from this machine's package mirror into the cache, verified")
    .argument('<version>', 'for example 7.2', kernelVersion)
    .action(async (version: string) => (await import('../kernel/commands.js')).fetch(version))

  kernel
    .command('apply')
    .description('apply the series to a kernel source, all of it or nothing')
    .option('--tree <dir>', 'kernel source', '.')
    .addOption(seriesOption())
    .option('--dry-run', 'only say what would happen')
    .option('--reverse', 'take the patches out')
    .option('--json', 'for programs')
    .action(async (options: ApplyOptions) => (await import('../kernel/commands.js')).apply(options))

  kernel
    .command('status')
    .description('which patches a kernel source has, fully or in part')
    .option('--tree <dir>', 'kernel source', '.')
    .addOption(seriesOption())
    .option('--json', 'for programs')
    .action(async (options: ApplyOptions) => (await import('../kernel/commands.js')).status(options))

  kernel
    .command('check-updates')
    .description("try every series on the newest point release that this machine's package mirror has")
    .option('--json', 'for programs')
    .action(async (options: { json?: boolean }) =>
      (await import('../kernel/drift-commands.js')).checkUpdatesCommand(options),
    )

  kernel
    .command('refresh')
    .description('rebase the series of a version onto a newer point release, if all of it applies')
    .argument('<version>', 'for example 7.2, its newest point release, or 7.2.14', pointRelease)
    .option('--tree <dir>', 'onto this kernel source')
    .option('--dry-run', 'only say what would happen')
    .option('--json', 'for programs')
    .action(async (version: string, options: RefreshOptions) =>
      (await import('../kernel/drift-commands.js')).refreshCommand(version, options),
    )

  addBuildOptions(kernel.command('build').description('build a kernel in the cache, or find it there'))
    .option('--json', 'for programs')
    .action(async (options: BuildOptions) => (await import('../kernel/commands.js')).build(options))

  addBuildOptions(
    kernel.command('boot').description('run one command in a kernel, on the root of this machine'),
  )
    .option('--memory <size>', 'memory of the machine', memorySize, '2G')
    .option('--append <word>', 'more for the kernel command line (repeatable)', collect, [])
    .argument('<command...>', 'command and its arguments, after --')
    .action(async (command: string[], options: BootOptions) => {
      leaveOutputErrors()
      await (await import('../kernel/commands.js')).bootCommand(command, options)
    })

  const module = kernel
    .command('module')
    .description('the patched overlayfs as a loadable module, for a kernel that stays as it is')
  addModuleOptions(
    module.command('build').description("build overlay.ko against a kernel's headers; nothing is installed"),
  )
    .option('--tree <dir>', 'kernel source, of the same point release, instead of the package')
    .option('--output <file>', 'also copy it there')
    .action(async (options: ModuleBuildOptions) =>
      (await import('../kernel/module/commands.js')).build(options),
    )
  addModuleOptions(
    module
      .command('status')
      .description('headers, what overlayfs is in a kernel, what is loaded, installed and built'),
  ).action(async (options: ModuleOptions) => (await import('../kernel/module/commands.js')).status(options))

  addPlaceOptions(
    module
      .command('install')
      .description(
        'build it and put it before the one that came with the kernel, by DKMS if that is installed',
      ),
  )
    .option('--tree <dir>', 'kernel source, of the same point release, instead of the package')
    .addOption(new Option('--method <method>', 'how').choices(['dkms', 'direct']))
    .option('--key <file>', "sign with this key instead of the machine's own")
    .option('--cert <file>', 'and its certificate')
    .action(async (options: InstallOptions) => (await import('../kernel/module/install.js')).install(options))
  addPlaceOptions(
    module.command('remove').description('take it away: the one that came with the kernel is used again'),
  ).action(async (options: InstallOptions) => (await import('../kernel/module/install.js')).remove(options))

  kernel
    .command('test')
    .description('run the test matrix of the series (in a checkout of the project)')
    .allowUnknownOption()
    .argument('[args...]', 'passed on to scripts/test-kernel')
    .action(async (args: string[]) => (await import('../kernel/commands.js')).test(args))
}

function addBuildOptions(command: Command): Command {
  return command
    .option('--version <version>', 'kernel version (default: the newest that has a series)', kernelVersion)
    .option('--tree <dir>', 'build this source instead of a fetched one; it is copied, not changed')
    .addOption(new Option('--target <target>', 'what to build').choices(['uml']).default('uml'))
    .addOption(
      new Option(
        '--debug <variant>',
        'a kernel that checks itself, has overlayfs as a module, or is for one CPU',
      ).choices(['lockdep', 'kasan', 'modules', 'up']),
    )
    .addOption(seriesOption())
    .option('--patched', 'with the series (default)')
    .addOption(new Option('--stock', 'without').conflicts('patched'))
}

function addModuleOptions(command: Command): Command {
  return command
    .option('--release <release>', 'of which kernel, as uname -r says it (default: the running one)')
    .option('--json', 'for programs')
}

function addPlaceOptions(command: Command): Command {
  return addModuleOptions(command)
    .option('--root <dir>', 'on the machine whose root this is, which is not running')
    .option('--no-load', 'leave the loaded module alone, even if nothing uses it')
    .addOption(new Option('--from-hook').hideHelp())
}

function seriesOption(): Option {
  return new Option('--series <name>', 'which series').choices(['kernfs', 'overlayfs', 'all']).default('all')
}

function kernelVersion(text: string): string {
  if (!/^\d+\.\d+$/.test(text)) throw new InvalidArgumentError('a version is like 7.2')
  return text
}

function pointRelease(text: string): string {
  if (!/^\d+\.\d+(\.\d+)?$/.test(text)) throw new InvalidArgumentError('a version is like 7.2 or 7.2.14')
  return text
}

/** As UML takes it. */
function memorySize(text: string): string {
  if (!/^[1-9]\d*[KkMmGg]?$/.test(text)) throw new InvalidArgumentError('a size is like 512M or 2G')
  return text
}

function collect(word: string, words: string[]): string[] {
  return [...words, word]
}
