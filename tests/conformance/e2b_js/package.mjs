// The installed package: loaded as a program would load it, its declarations read by TypeScript, and watched while the
// tests run.

import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

import { rowName, watch } from '../js/watching.mjs';
import { Declarations } from './declarations.mjs';

// Options of an options object that are objects themselves, and rows of their own.
const NESTED = ['network', 'lifecycle', 'query'];

// `alone`: without what it has from the package that it is made upon.
export async function load(directory, name = 'e2b', alone = false) {
  const root = join(directory, 'node_modules', name);
  const manifest = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'));
  const exported = { ...(await import(pathToFileURL(join(root, manifest.module ?? manifest.exports['.'].import)))) };
  const typescript = createRequire(join(directory, 'package.json'))('typescript');
  const declared = new Declarations(typescript, join(root, manifest.types), alone);
  const callables = declared.callables(exported);
  return { version: manifest.version, exported, declared, callables, rows: rowsOf(callables) };
}

// [{ member, parameter }]: every public member of every class with its parameters, every function, and every error by
// its name. An option of an options object is a parameter of its own; those of the connection are a member of their
// own, as they are the same everywhere.
function rowsOf(callables) {
  const rows = new Map();
  const add = (member, parameter) => rows.set(rowName(member, parameter), { member, parameter });
  for (const { member, overloads } of callables) {
    add(member, null);
    for (const { name, options } of overloads.flat()) {
      if (options === null) add(member, name);
      for (const each of options ?? []) {
        if (each.shared) add(each.shared, null);
        add(...optionRow(member, name, each));
        if (NESTED.includes(each.name))
          for (const inner of each.options ?? []) add(member, `${each.name}.${inner.name}`);
      }
    }
  }
  return [...rows.values()].sort((one, other) => sharedLast(one) - sharedLast(other));
}

const sharedLast = ({ member }) => Number(member.endsWith('Opts'));
const optionRow = (member, parameter, { name, shared }) => (shared ? [shared, name] : [member, `${parameter}.${name}`]);

// Replaces what the classes have. Those that the package does not export are met as values.
export class Watch {
  constructor({ exported, callables, declared }) {
    Object.assign(this, { callables, declared, met: new Set() });
    const named = Object.entries(exported).filter(([name]) => name !== 'default');
    this.names = new Map(named.map(([name, value]) => [value, name]));
    for (const Class of Object.values(exported)) if (typeof Class === 'function') this.meet(Class);
    const offline = new exported.Sandbox({ sandboxId: 'none', envdVersion: '0.6.13', apiKey: `e2b_${'0'.repeat(40)}` });
    for (const callable of callables.filter(({ own }) => own === 'function'))
      watch(exported, callable.name, {
        rows: (args) => shownBy(callable, args),
        look: (test, value) => test.mismatched.push(...declared.unlike(value, callable)),
      });
    const parts = [offline.files, offline.commands, offline.pty, offline.git].filter(Boolean);
    for (const part of parts) this.meet(part.constructor);
  }

  meet(Class) {
    if (this.met.has(Class)) return;
    this.met.add(Class);
    const name = this.names.get(Class) ?? Class.name.replace(/^_|\d+$/g, ''); // without what bundlers add
    for (const callable of this.callables.filter((each) => each.holder === name)) {
      const start = callable.own === 'static' ? Class : Class.prototype;
      const holder = holderOf(start, callable.name);
      const place = holder === start ? start : inherit(start, holder, callable.name);
      watch(place, callable.name, {
        rows: (args) => shownBy(callable, args),
        look: (test, value) => {
          test.mismatched.push(...this.declared.unlike(value, callable));
          if (value !== null && typeof value === 'object') this.meet(value.constructor);
        },
      });
    }
  }
}

function holderOf(start, name) {
  for (let holder = start; holder; holder = Object.getPrototypeOf(holder))
    if (Object.hasOwn(holder, name)) return holder;
  throw new Error(`declared, and not there: ${name}`);
}

// A member of a class above, for this class alone.
function inherit(start, holder, name) {
  Object.defineProperty(start, name, Object.getOwnPropertyDescriptor(holder, name));
  return start;
}

const takes = ({ text }, isText) => text === 'maybe' || (text === 'only') === isText;

// The first whose parameters could take these arguments, and whose options have all that is given, if one has.
function overloadOf({ overloads }, args) {
  const fits = (parameters) =>
    args.length <= parameters.length &&
    args.every((arg, index) => arg === undefined || takes(parameters[index], typeof arg === 'string'));
  const knows = (parameters) => args.every((arg, index) => hasOptions(parameters[index], arg));
  const best = overloads.findIndex((each) => fits(each) && knows(each));
  return Math.max(0, best < 0 ? overloads.findIndex(fits) : best);
}

function hasOptions(parameter, arg) {
  if (!parameter?.options || arg === null || typeof arg !== 'object') return true;
  return Object.keys(arg).every((key) => parameter.options.some(({ name }) => name === key));
}

function* shownBy(callable, args) {
  const { member, overloads } = callable;
  yield member;
  for (const [index, { name, options }] of overloads[overloadOf(callable, args)].entries()) {
    const given = args[index];
    if (given === undefined) continue;
    if (options === null) yield rowName(member, name);
    for (const each of options ?? []) {
      if (given[each.name] === undefined) continue;
      if (each.shared) yield each.shared;
      yield rowName(...optionRow(member, name, each));
      if (NESTED.includes(each.name))
        for (const inner of each.options ?? [])
          if (given[each.name][inner.name] !== undefined) yield rowName(member, `${each.name}.${inner.name}`);
    }
  }
}
