// SPDX-License-Identifier: MIT

// npm run bench -- kernel [--version V] [--debug up] [--turns N] [--rounds N] [--no-write]: what following costs in the kernel.
// Stock and patched are booted in turn; in a patched boot off, manual, notify and reval are interleaved. User-mode Linux is for
// one CPU before 7.0; later it needs `--debug up` for that, see kernel-patches/configs/up.config.
import { writeFileSync } from 'node:fs'
import { cpus, release } from 'node:os'
import { dirname, join } from 'node:path'
import { PassThrough } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..')
const { boot } = await import(join(root, 'dist/kernel/boot.js'))
const { obtainBuild } = await import(join(root, 'dist/kernel/commands.js'))
const { versions } = await import(join(root, 'dist/kernel/series.js'))

const { values } = parseArgs({
  args: process.argv.slice(3),
  options: {
    version: { type: 'string' },
    debug: { type: 'string' },
    turns: { type: 'string', default: '5' },
    rounds: { type: 'string', default: '15' },
    'no-write': { type: 'boolean' },
  },
})
const version = values.version ?? (await versions()).at(-1)
const turns = Number(values.turns)

async function measure(kind) {
  const build = await obtainBuild({
    version,
    target: 'uml',
    series: 'all',
    stock: kind === 'stock',
    debug: values.debug,
  })
  const stdout = new PassThrough()
  const chunks = []
  stdout.on('data', (chunk) => chunks.push(chunk))
  const argv = ['python3', '-B', join(root, 'test/kernel/overlayfs_cost.py'), values.rounds]
  const { status, splats } = await boot({ build, argv, cwd: root, stdout, stderr: process.stderr })
  if (status !== 0 || splats.length > 0) throw new Error(`${kind}: status ${status} ${splats.join(' ')}`)
  const rows = new Map()
  for (const line of Buffer.concat(chunks).toString().trimEnd().split('\n')) {
    const [name, list] = line.split('= ')
    for (const [, mode, ns] of list.matchAll(/(\w+) (\d+) ns/g)) rows.set(`${name}|${mode}`, Number(ns))
  }
  return rows
}

const median = (list) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)]

const runs = []
for (let turn = 1; turn <= turns; turn++) {
  process.stderr.write(`turn ${turn} of ${turns}\n`)
  const order = turn % 2 === 1 ? ['stock', 'patched'] : ['patched', 'stock']
  const found = new Map()
  for (const kind of order) for (const [key, ns] of await measure(kind)) found.set(key, ns)
  runs.push(found)
}

const names = [...new Set([...runs[0].keys()].map((key) => key.split('|')[0]))]
const of = (name, mode) => runs.map((run) => run.get(`${name}|${mode}`))
const ratio = (name, mode, to) => {
  const base = of(name, to)
  return median(of(name, mode).map((ns, at) => ns / base[at])).toFixed(2)
}
const rows = names.map((name) => {
  const cells = [`${median(of(name, 'stock'))} ns`, ratio(name, 'off', 'stock')]
  for (const mode of ['manual', 'notify', 'reval']) cells.push(ratio(name, mode, 'off'))
  return `| ${name} | ${cells.join(' | ')} |`
})
const command = [
  'kernel',
  ...(values.version ? ['--version', version] : []),
  ...(values.debug ? ['--debug', values.debug] : []),
]
const page = `# What following costs in the kernel, Linux ${version}

Written by \`npm run bench -- ${command.join(' ')}\` on ${new Date().toISOString().slice(0, 10)}: user-mode Linux on ${cpus()[0].model}, ${cpus().length} cores, host Linux ${release()}. ${turns} boots of each kernel in turn, the least of ${values.rounds} rounds in each boot, medians of the ratios. System calls of user-mode Linux are slow, and one for several CPUs has barriers that cost what they do not on real hardware: the ratios are what counts.

| operation | stock | off to stock | manual to off | notify to off | reval to off |
| --- | --- | --- | --- | --- | --- |
${rows.join('\n')}
`
process.stdout.write(page)
if (!values['no-write']) writeFileSync(join(root, 'docs', `benchmarks-kernel-${version}.md`), page)
