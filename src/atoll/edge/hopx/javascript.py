"""What Node.js loads before a piece of JavaScript, so that the code is taken as its author meant it.

Node.js decides by a file's name whether it is a script or a module, and looks for what it imports around that file. Our
code has no name, and belongs into the directory where it runs. So: with `import`, `export` or `await` outside of
functions it is a module (found by compiling it, before anything of it runs), else a script; what is not found beside
the file is looked for in the working directory. A module may call `require` too, as people mix them.
"""

from __future__ import annotations

from typing import Final

PRELOAD: Final = "atoll.cjs"
PRELOAD_TEXT: Final = r"""'use strict';
const fs = require('fs');
const path = require('path');
const Module = require('module');
const { Script } = require('vm');

const main = path.join(__dirname, 'main.js');
const cwd = process.cwd();
const only_in_modules = /^Cannot use import statement|^Unexpected token 'export'|^Cannot use 'import.meta'/;

// Programs that this one starts are Node.js as they know it.
process.execArgv.splice(process.execArgv.indexOf('--require'), 2);

const load = Module._extensions['.js'];
Module._extensions['.js'] = (module, filename) => {
  if (filename !== main) return load(module, filename);
  Module._extensions['.js'] = load;
  const source = fs.readFileSync(main, 'utf8');
  return isModule(source) ? runModule(source) : load(module, filename);
};

const here = new Module(path.join(cwd, 'main.js'));
here.filename = here.id;
here.paths = Module._nodeModulePaths(cwd);
const resolve = Module._resolveFilename;
Module._resolveFilename = function (request, parent, ...more) {
  try {
    return resolve.call(this, request, parent, ...more);
  } catch (error) {
    if (error.code === 'MODULE_NOT_FOUND' && parent && parent.filename === main) parent = here;
  }
  return resolve.call(this, request, parent, ...more);
};

function isModule(source) {
  const script = source.replace(/^\uFEFF/, '').replace(/^#!.*/, '');
  const error = refusal(`(function (exports, require, module, __filename, __dirname) {${script}\n})`);
  return error !== null && (only_in_modules.test(error.message) || !refusal(`(async function () {${script}\n})`));
}

function refusal(text) {
  try {
    new Script(text);
    return null;
  } catch (error) {
    return error;
  }
}

function runModule(source) {
  const packages = here.paths.find((each) => fs.existsSync(each));
  if (packages) fs.symlinkSync(packages, path.join(__dirname, 'node_modules'));
  for (const [, name] of source.matchAll(/['"]\.\/([^'"/\\]+)/g)) {
    const [target, link] = [cwd, __dirname].map((directory) => path.join(directory, name));
    if (fs.existsSync(target) && !fs.existsSync(link)) fs.symlinkSync(target, link);
  }
  const file = path.join(__dirname, 'main.mjs');
  fs.renameSync(main, file);
  Object.assign(globalThis, { require: Module.createRequire(here.id), __filename: file, __dirname });
  import(require('url').pathToFileURL(file).href);
}
"""
