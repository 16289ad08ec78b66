// node main.mjs DIRECTORY REPORT: as that of E2B's package, of which this one is a fork, and with tests of its own.

import { readdir, writeFile } from 'node:fs/promises';

import { needless, runAll } from '../js/harness.mjs';
import { load, Watch } from '../e2b_js/package.mjs';
import { NovitaTest, OTHERWISE, ownRows } from './novita.mjs';

const [directory, report] = process.argv.slice(2);

const sdk = await load(directory, 'novita-sandbox');
sdk.rows = ownRows(sdk.rows);
new Watch(sdk);

for (const home of ['../e2b_js/tests/', 'tests/']) {
  const here = new URL(home, import.meta.url);
  for (const file of (await readdir(here)).sort()) await import(new URL(file, here));
}

const place = { sdk, facts: process.env, otherwise: OTHERWISE };
const results = await runAll(place, NovitaTest);
const { version, rows } = sdk;
await writeFile(report, JSON.stringify({ version, rows, results, needless: needless(results, place) }));
process.exit(0); // the client leaves sockets open
