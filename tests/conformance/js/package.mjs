// The installed package: loaded as a program would load it, looked at, and watched while the tests run.

import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

import { fieldsOf, mismatches, parse } from './declarations.mjs';
import { rowName, watch } from './watching.mjs';

export async function load(directory) {
  const root = join(directory, 'node_modules/@hopx-ai/sdk');
  const manifest = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'));
  const entry = manifest.exports['.'];
  const declared = parse(await readFile(join(root, entry.types), 'utf8'));
  const exported = await import(pathToFileURL(join(root, entry.import)));
  return {
    version: manifest.version,
    exported,
    declared,
    rows: rowsOf(exported, declared),
    source: await sourceOf(root),
  };
}

async function sourceOf(root) {
  const bundles = (await readdir(join(root, 'dist'))).filter((name) => name.endsWith('.mjs'));
  return (await Promise.all(bundles.map((name) => readFile(join(root, 'dist', name), 'utf8')))).join('\n');
}

const isClass = (value) => typeof value === 'function' && /^class\b/.test(Function.prototype.toString.call(value));
const isError = (value) => isClass(value) && value.prototype instanceof Error;
const holderOf = (Class, { own }) => (own === 'static' ? Class : Class.prototype);

// [{ member, parameter }]: every public member of every exported class with its parameters, every exported function,
// and every exported error by its name. An option of an options object is a parameter of its own.
function rowsOf(exported, declared) {
  const rows = [];
  for (const [name, value] of Object.entries(exported)) {
    if (name === 'default') continue;
    if (isError(value)) rows.push({ member: name, parameter: null });
    else if (isClass(value)) rows.push(...rowsOfClass(name, value, declared));
    else if (typeof value === 'function') rows.push(...rowsOfCallable(name, declared.functions[name], declared));
  }
  return rows;
}

function rowsOfClass(name, Class, declared) {
  return publicMembers(name, Class, declared).flatMap(([member, { parameters }]) =>
    rowsOfCallable(`${name}.${member}`, parameters, declared),
  );
}

function rowsOfCallable(member, parameters, { interfaces }) {
  const names = parameters.flatMap(({ name, type }) => {
    const options = fieldsOf(type, interfaces);
    return options ? Object.keys(options).map((option) => `${name}.${option}`) : [name];
  });
  return [null, ...names].map((parameter) => ({ member, parameter }));
}

// What the class has when it runs; that the declarations say the same keeps both honest.
function publicMembers(name, Class, declared) {
  const { members } = declared.classes[name];
  const there = [...Object.getOwnPropertyNames(Class.prototype), ...Object.getOwnPropertyNames(Class)];
  const callable = there.filter((each) => !['constructor', 'prototype', 'length', 'name'].includes(each));
  const undeclared = callable.filter((each) => !members[each]);
  const missing = Object.keys(members).filter(
    (each) => each !== 'constructor' && members[each].own !== 'field' && !callable.includes(each),
  );
  if (undeclared.length || missing.length) throw new Error(`${name}: undeclared ${undeclared}, missing ${missing}`);
  return callable
    .filter((each) => !members[each].hidden && members[each].own !== 'field')
    .map((each) => [each, members[each]]);
}

export function watchAll({ exported, declared }) {
  for (const [name, Class] of Object.entries(exported)) {
    if (name === 'default' || !isClass(Class) || isError(Class)) continue;
    for (const [member, about] of publicMembers(name, Class, declared)) {
      const promised = about.returns?.match(/^Promise<([\s\S]+)>$/);
      watch(holderOf(Class, about), member, {
        rows: (args) => named(`${name}.${member}`, about.parameters, args, declared),
        look: (test, value) =>
          promised && test.mismatched.push(...mismatches(value, promised[1], declared.interfaces, `${name}.${member}`)),
      });
    }
  }
}

function* named(member, parameters, args, { interfaces }) {
  yield rowName(member);
  for (const [index, { name, type }] of parameters.entries()) {
    if (args[index] === undefined) continue;
    const options = fieldsOf(type, interfaces);
    if (!options) yield rowName(member, name);
    for (const key of Object.keys(options ?? {}))
      if (args[index][key] !== undefined) yield rowName(member, `${name}.${key}`);
  }
}
