// SPDX-License-Identifier: MIT

// npm run bench -- kernel: what following costs in the kernel, and the events of kernfs.
// Stock and patched are booted in turn; in a patched boot off, manual, notify and reval are interleaved, and in both boots who
// watches. User-mode Linux is for one CPU before 7.0; later it needs `--debug up` for that, see kernel-patches/configs/up.config.
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

const usage = `Usage: npm run bench -- kernel [options]

Measures what the kernel series cost, and writes docs/benchmarks-kernel-VERSION.md. Needs a quiet machine.

  --version V   kernel series (the newest)
  --debug up    a kernel for one CPU: from 7.0 on
  --turns N     boots of each kernel (5)
  --rounds N    rounds in each boot (15)
  --only PART   overlayfs or kernfs; writes nothing
  --no-write    writes nothing
  --help        this
`

const { values } = parseArgs({
  args: process.argv.slice(3),
  options: {
    version: { type: 'string' },
    debug: { type: 'string' },
    turns: { type: 'string', default: '5' },
    rounds: { type: 'string', default: '15' },
    only: { type: 'string' },
    'no-write': { type: 'boolean' },
    help: { type: 'boolean' },
  },
})
if (values.help) {
  process.stdout.write(usage)
  process.exit()
}
const parts = values.only ? [values.only] : ['overlayfs', 'kernfs']
if (!parts.every((part) => ['overlayfs', 'kernfs'].includes(part))) {
  process.stderr.write(usage)
  process.exit(2)
}
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
  const scripts = join(root, 'test', 'kernel')
  const programs = {
    overlayfs: `python3 -B "$0"/overlayfs_cost.py ${Number(values.rounds)}`,
    kernfs: `python3 -B "$0"/kernfs_cost.py ${kind} ${Number(values.rounds)}`,
  }
  const argv = ['sh', '-ec', parts.map((part) => programs[part]).join('\n'), scripts]
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

const keys = [...runs[0].keys()].map((key) => key.split('|'))
const namesWith = (mode) => keys.filter(([, of]) => of === mode).map(([name]) => name)
const of = (name, mode) => runs.map((run) => run.get(`${name}|${mode}`))
const ratio = (name, mode, to) => {
  const base = of(name, to)
  return median(of(name, mode).map((ns, at) => ns / base[at])).toFixed(2)
}
const row = (name, stock, ratios) => {
  const cells = [`${median(of(name, stock))} ns`, ...ratios.map(([mode, to]) => ratio(name, mode, to))]
  return `| ${name} | ${cells.join(' | ')} |`
}
const tables = {
  overlayfs: () => `| operation | stock | off to stock | manual to off | notify to off | reval to off |
| --- | --- | --- | --- | --- | --- |
${namesWith('stock')
  .map((name) =>
    row(name, 'stock', [
      ['off', 'stock'],
      ['manual', 'off'],
      ['notify', 'off'],
      ['reval', 'off'],
    ]),
  )
  .join('\n')}
`,
  kernfs:
    () => `Changes in cgroup2, without overlayfs. Watches are those of inotify, on another directory or on those that change. A
user's mkdir and rmdir are reported on stock, too.

| operation | stock | to stock, nobody watches | elsewhere to nobody | watched to nobody | the same on stock |
| --- | --- | --- | --- | --- | --- |
${namesWith('stock_nobody')
  .map((name) =>
    row(name, 'stock_nobody', [
      ['patched_nobody', 'stock_nobody'],
      ['patched_elsewhere', 'patched_nobody'],
      ['patched_watched', 'patched_nobody'],
      ['stock_watched', 'stock_nobody'],
    ]),
  )
  .join('\n')}
`,
}
const command = [
  'kernel',
  ...(values.version ? ['--version', version] : []),
  ...(values.debug ? ['--debug', values.debug] : []),
  ...(values.only ? ['--only', values.only] : []),
]
const page = `# What following costs in the kernel, Linux ${version}

Written by \`npm run bench -- ${command.join(' ')}\` on ${new Date().toISOString().slice(0, 10)}: user-mode Linux on ${cpus()[0].model}, ${cpus().length} cores, host Linux ${release()}. ${turns} boots of each kernel in turn, the least of ${values.rounds} rounds in each boot, medians of the ratios. System calls of user-mode Linux are slow, and one for several CPUs has barriers that cost what they do not on real hardware: the ratios are what counts.

${parts.map((part) => tables[part]()).join('\n')}`
process.stdout.write(page)
if (!values['no-write'] && !values.only)
  writeFileSync(join(root, 'docs', `benchmarks-kernel-${version}.md`), page)
