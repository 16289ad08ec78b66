// node main.mjs DIRECTORY REPORT: runs every test with the package installed in DIRECTORY against the installation
// that the environment names, and writes one JSON object to REPORT. Says by its exit status only that it got there.

import dns from 'node:dns';
import { readdir, writeFile } from 'node:fs/promises';

import { needless, runAll } from './harness.mjs';
import { HopxTest, OTHERWISE } from './hopx.mjs';
import { load, watchAll } from './package.mjs';

const [directory, report] = process.argv.slice(2);
const { ATOLL_URL: url, ATOLL_KEY: apiKey, ...facts } = process.env;

// The DNS of an installation with a domain: it and every name below it are this machine.
const { lookup } = dns;
dns.lookup = (name, ...rest) => lookup(`.${name}`.endsWith(`.${facts.ATOLL_DOMAIN}`) ? '127.0.0.1' : name, ...rest);

const sdk = await load(directory);
watchAll(sdk);

const here = new URL('tests/', import.meta.url);
for (const file of (await readdir(here)).sort()) await import(new URL(file, here));

const place = { sdk, url, apiKey, facts, otherwise: OTHERWISE };
const results = await runAll(place, HopxTest);
const { version, rows } = sdk;
await writeFile(report, JSON.stringify({ version, rows, results, needless: needless(results, place) }));
process.exit(0); // the client leaves sockets open
