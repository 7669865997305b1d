// SPDX-License-Identifier: MIT

/** npm run bench. `--turns N` (5), `--without SYSTEM` leaves one out; `--no-write` prints only. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { hasProgram, projectRoot, requirePrivateNamespace, run } from '../integration/fixture/environment.js'
import { type Kind, measureCases, measureResources, measureTurn, type Sample } from './measure.js'
import { report } from './report.js'
import { allSystems, type System } from './systems.js'

const { values } = parseArgs({
  options: {
    turns: { type: 'string', default: '5' },
    'no-write': { type: 'boolean' },
    without: { type: 'string', multiple: true, default: [] },
  },
})
const turns = Number(values.turns)
const say = (text: string) => process.stderr.write(`${text}\n`)

function compile(directory: string, name: string): string {
  const program = join(directory, name)
  run('cc', '-O2', '-Wall', '-Wextra', '-o', program, join(projectRoot, 'test', 'bench', `${name}.c`))
  return program
}

/** One system after the other, again and again: what the machine does meanwhile is the same for all. */
async function measureLatency(systems: System[], poller: string): Promise<Map<string, Map<Kind, Sample[]>>> {
  const all = new Map(systems.map(({ name }) => [name, new Map<Kind, Sample[]>()]))
  for (let turn = 1; turn <= turns; turn++) {
    for (const system of systems) {
      say(`latency: turn ${turn} of ${turns}, ${system.name}`)
      for (const [kind, samples] of await measureTurn(system, poller)) {
        const before = all.get(system.name)?.get(kind) ?? []
        all.get(system.name)?.set(kind, [...before, ...samples])
      }
    }
  }
  return all
}

async function main(): Promise<void> {
  requirePrivateNamespace()
  for (const program of ['cc', 'inotifywait']) {
    if (hasProgram(program)) continue
    say(`${program} is missing: apt-get install ${program === 'cc' ? 'gcc' : 'inotify-tools'}`)
    process.exitCode = 2
    return
  }
  const directory = mkdtempSync(join(tmpdir(), 'lowerwatch-bench-'))
  try {
    const poller = compile(directory, 'poller')
    const floor = compile(directory, 'floor')
    const systems = allSystems(floor).filter(({ name }) => !values.without.includes(name))
    const samples = await measureLatency(systems, poller)
    say('cases')
    const cases = await measureCases(systems, turns)
    say('ready time, memory, refreshes')
    const resources = values.without.includes('lowerwatch') ? null : await measureResources(poller)
    const page = report({ samples, cases, resources, turns }, systems, 'npm run bench')
    process.stdout.write(page)
    if (values['no-write'] === true) return
    mkdirSync(join(projectRoot, 'docs'), { recursive: true })
    writeFileSync(join(projectRoot, 'docs', 'benchmarks.md'), page)
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

await main()
