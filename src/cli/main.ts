#!/usr/bin/env node
// SPDX-License-Identifier: MIT
import { readFileSync } from 'node:fs'
import { Command, CommanderError } from 'commander'
import { exitQuietlyOnClosedOutput, printError } from './output.js'

/** What a module in this folder exports; the result is the exit status. */
interface CommandModule {
  command(positional: string[], options: Record<string, unknown>): Promise<number>
}

// Each command is loaded when it is asked for: `run` must be ready within 250 ms.
const load = {
  run: () => import('./run.js'),
  status: () => import('./status.js'),
  check: () => import('./check.js'),
  refresh: () => import('./refresh.js'),
  holders: () => import('./holders.js'),
  watch: () => import('./watch.js'),
  probe: () => import('./probe.js'),
  demo: () => import('./demo.js'),
} satisfies Record<string, () => Promise<CommandModule>>

const json = ['--json', 'print JSON'] as const
const socket = ['--socket <path>', 'the control socket'] as const

function build(done: (status: number) => void): Command {
  const program = new Command('lowerwatch')
    .description('Keeps overlay mounts coherent with lower layers that change underneath them.')
    .version(version(), '-V, --version')
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(usageLine(text)) })

  const add = (name: keyof typeof load, description: string) =>
    program
      .command(name)
      .description(description)
      .action(async (...given: unknown[]) => {
        const command = given.at(-1) as Command
        const { command: run } = (await load[name]()) as CommandModule
        done(
          await run(
            command.processedArgs.flat().filter((item) => item !== undefined),
            command.opts(),
          ),
        )
      })

  add('run', 'the daemon, in the foreground')
    .argument('[mountpoint...]', 'overlays to serve')
    .option('--all', 'serve every overlay, also those mounted later')
    .option('--config <file>', 'TOML configuration')
    .option(...socket)
  add('status', 'what the daemon serves, how, and what it could not make coherent')
    .option(...json)
    .option(...socket)
  add('check', 'is the overlay coherent now? exit status 1 if not')
    .argument('<mountpoint>')
    .argument('[path...]', 'only these, relative to the mount point')
    .option(...json)
  add('refresh', 'refresh once, and verify')
    .argument('<mountpoint>')
    .argument('[path...]', 'only these, relative to the mount point')
    .option('--strategy <rung>', 'this rung of the ladder and no other')
    .option('--dry-run', 'say what would be done')
    .option(...json)
  add('holders', 'which processes pin something of the overlay')
    .argument('<mountpoint>')
    .argument('[path...]', 'only these, relative to the mount point')
    .option(...json)
  add('watch', 'the changes of directories as they come')
    .argument('<path...>')
    .option('-0, --null', 'end each record with a zero byte, names as they are')
    .option(...json)
  add('probe', 'what this kernel does: events, overlay facts, the ladder; exit status 1 if not as expected')
    .option('--only <pattern>', 'rows that this regular expression matches')
    .option('--events', 'with the raw events')
    .option('--tap', 'print TAP')
    .option('--expect <file>', 'another expectation table')
    .option('--matrix <file...>', 'nothing is tried: a document from what --json printed on several kernels')
    .option(...json)
  add('demo', 'the main job, end to end, on throw-away overlays').option(...json)
  return program
}

function usageLine(text: string): string {
  return `lowerwatch: ${text
    .replace(/^error: /, '')
    .trim()
    .replace(/\s*\n\s*/g, ' ')}\n`
}

function version(): string {
  return JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')).version
}

async function main(): Promise<void> {
  exitQuietlyOnClosedOutput()
  try {
    const program = build((status) => {
      process.exitCode = status
    })
    if (process.argv[2] === 'kernel') (await import('./kernel.js')).registerKernel(program)
    await program.parseAsync()
  } catch (error) {
    // Help and --version end here too, with exit code 0; a usage error is already printed.
    process.exitCode = error instanceof CommanderError ? (error.exitCode === 0 ? 0 : 2) : printError(error)
  }
}

await main()
