// SPDX-License-Identifier: MIT

/** Of the rest, make takes variables for its own, tar and apt options, Node code, mkdtemp(3) a directory. */
const kept = /^(HOME|XDG_CACHE_HOME|LANG|LC_\w+|TERM|KBUILD_SIGN_PIN|LOWERWATCH_\w+|\w+_proxy)$/i
const path = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/**
 * How make and tar are run, by any user: what a build is made of does not depend on variables that its name does not
 * have. For execa.
 */
export function plainOptions(variables: Record<string, string> = {}) {
  const env = Object.entries(process.env).filter(([name]) => name === 'PATH' || kept.test(name))
  return { env: { ...Object.fromEntries(env), LC_ALL: 'C', ...variables }, extendEnv: false }
}

/** Before root runs programs: they get the system's path, a plain environment, and make files that others cannot change. */
export function cleanEnvironment(env: NodeJS.ProcessEnv = process.env, user = process.geteuid!()): void {
  if (user !== 0) return
  process.umask(0o022)
  for (const name of Object.keys(env)) if (!kept.test(name)) delete env[name]
  env.PATH = path
}
