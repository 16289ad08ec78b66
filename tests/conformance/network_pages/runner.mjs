// node runner.mjs PACKAGE EXAMPLE AUTHORITIES URL…: the same as runner.py, for the other language.

import { readFile } from 'node:fs/promises';

const STORE = '/etc/ssl/certs/ca-certificates.crt';
const LISTENERS = "cat /proc/net/tcp /proc/net/tcp6 | grep -c ' 0A ' || true";
const CURL = "curl -s -o /dev/null -w '%{url} %{http_code}\\n' --connect-timeout 3 --max-time 5";

const [name, example, authorities, ...urls] = process.argv.slice(2);
const { Sandbox } = await import(name);
const trusted = await readFile(authorities, 'utf8');
const made = [];
const create = Sandbox.create;

Sandbox.create = async function (...options) {
  const sandbox = await create.apply(this, options);
  made.push(sandbox);
  await sandbox.commands.run(`echo '${trusted}' >> ${STORE}`, { user: 'root' });
  sandbox.commands.run = patient(sandbox.commands.run.bind(sandbox.commands));
  return sandbox;
};

function patient(run) {
  const listeners = async () => (await run(LISTENERS)).stdout;
  return async (command, options = {}) => {
    if (!options.background) return run(command, options);
    const before = await listeners();
    const handle = await run(command, options);
    while ((await listeners()) === before);
    return handle;
  };
}

async function statuses(sandbox) {
  const words = urls.map((url) => `'${url}'`).join(' ');
  const { stdout } = await sandbox.commands.run(`printf '%s\\n' ${words} | xargs -P 8 -n 1 ${CURL}; true`);
  const found = Object.fromEntries(
    stdout
      .trim()
      .split('\n')
      .map((line) => line.split(' ')),
  );
  return urls.map((url) => Number(found[url]));
}

try {
  await import(example);
  console.log(JSON.stringify(await Promise.all(made.map((sandbox) => (urls.length ? statuses(sandbox) : [])))));
} finally {
  await Promise.all(made.map((sandbox) => sandbox.kill()));
}
process.exit(0); // the client leaves sockets open
