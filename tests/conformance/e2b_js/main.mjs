// node main.mjs DIRECTORY REPORT: runs every test with the package installed in DIRECTORY against the installation
// that the environment names as the package reads it, and writes one JSON object to REPORT. Says by its exit status
// only that it got there.

import { readdir, writeFile } from 'node:fs/promises';

import { needless, runAll } from '../js/harness.mjs';
import { E2BTest, OTHERWISE } from './e2b.mjs';
import { load, Watch } from './package.mjs';

const [directory, report] = process.argv.slice(2);

const sdk = await load(directory);
new Watch(sdk);

const here = new URL('tests/', import.meta.url);
for (const file of (await readdir(here)).sort()) await import(new URL(file, here));

const place = { sdk, facts: process.env, otherwise: OTHERWISE };
const results = await runAll(place, E2BTest);
const { version, rows } = sdk;
await writeFile(report, JSON.stringify({ version, rows, results, needless: needless(results, place) }));
process.exit(0); // the client leaves sockets open
