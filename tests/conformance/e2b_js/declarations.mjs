// What the package declares, by TypeScript's own reading of its .d.ts.

import { dirname } from 'node:path';

// Options that are the same for many members, by the interface that declares them.
const SHARED = ['ConnectionOpts', 'VolumeApiOpts', 'FilesystemRequestOpts'];
// For these classes, those of `commands.run` are too.
const BY_COMMANDS = { Git: ['CommandStartOpts', 'GitRequestOpts'] };
const DEPTH = 4;

export class Declarations {
  // `alone`: only what this file declares itself.
  constructor(typescript, file, alone = false) {
    this.ts = typescript;
    this.alone = alone;
    const options = { strict: true, noEmit: true, skipLibCheck: true, types: [], lib: ['lib.es2022.d.ts'] };
    const program = typescript.createProgram([file], options);
    this.checker = program.getTypeChecker();
    const source = program.getSourceFile(file);
    this.home = dirname(source.fileName);
    this.exports = this.checker.getExportsOfModule(this.checker.getSymbolAtLocation(source)).map((symbol) => ({
      name: symbol.getName(),
      symbol: symbol.flags & typescript.SymbolFlags.Alias ? this.checker.getAliasedSymbol(symbol) : symbol,
    }));
  }

  // [{ member, holder, name, own: static | method | getter | function | error, overloads: [[parameter]], returns }]:
  // a parameter is { name, text: only | maybe | never, options: null | [{ name, shared, options }] }.
  callables(exported) {
    const { SymbolFlags } = this.ts;
    return this.exports
      .filter(({ name, symbol }) => name !== 'default' && (!this.alone || this._isOurs(symbol)))
      .flatMap(({ name, symbol }) => {
        if (symbol.flags & SymbolFlags.Class) return this._class(name, symbol, exported[name]);
        if (symbol.flags & SymbolFlags.Function) return [this._callable(null, name, symbol, 'function')];
        return [];
      });
  }

  _class(name, symbol, value) {
    if (value?.prototype instanceof Error)
      return [{ member: name, holder: null, name, own: 'error', overloads: [], returns: [] }];
    const instance = this.checker.getDeclaredTypeOfSymbol(symbol).getProperties();
    const statics = this.checker.getTypeOfSymbol(symbol).getProperties();
    return [...statics.map((each) => [each, true]), ...instance.map((each) => [each, false])]
      .filter(([each]) => this._isPublic(each) && (!this.alone || this._isOurs(each)))
      .flatMap(([each, isStatic]) => {
        const { SymbolFlags } = this.ts;
        if (each.flags & SymbolFlags.GetAccessor) return [this._callable(name, each.getName(), each, 'getter', symbol)];
        if (each.flags & SymbolFlags.Method)
          return [this._callable(name, each.getName(), each, isStatic ? 'static' : 'method', symbol)];
        return [];
      });
  }

  _isOurs(symbol) {
    return (symbol.declarations ?? []).some((each) => dirname(each.getSourceFile().fileName) === this.home);
  }

  _isPublic(symbol) {
    const { ModifierFlags } = this.ts;
    const flags = (symbol.declarations ?? []).map((each) => this.ts.getCombinedModifierFlags(each));
    return flags.length > 0 && !flags.some((each) => each & (ModifierFlags.Private | ModifierFlags.Protected));
  }

  _callable(holder, name, symbol, own) {
    const signatures = own === 'getter' ? [] : this.checker.getTypeOfSymbol(symbol).getCallSignatures();
    const member = holder === null ? name : `${holder}.${name}`;
    return {
      member: own === 'method' && this._hasStatic(holder, name) ? `${holder}#${name}` : member,
      holder,
      name,
      own,
      overloads: own === 'getter' ? [[]] : signatures.map((each) => this._parameters(each, holder)),
      returns:
        own === 'getter'
          ? [this.checker.getTypeOfSymbol(symbol)]
          : signatures.map((each) => this._awaited(each.getReturnType())),
    };
  }

  // `Sandbox.kill(id)` and `sandbox.kill()` are two.
  _hasStatic(holder, name) {
    const { symbol } = this.exports.find((each) => each.name === holder);
    const found = this.checker.getTypeOfSymbol(symbol).getProperty(name);
    return found !== undefined && this._isOurs(found) && this._isPublic(found);
  }

  _parameters(signature, holder) {
    return signature.getParameters().map((symbol) => {
      const type = this._present(this.checker.getTypeOfSymbol(symbol));
      const name = /^\w+$/.test(symbol.getName()) && !symbol.getName().startsWith('__') ? symbol.getName() : 'options';
      return { name, text: this._text(type), options: this._options(type, holder, 1) };
    });
  }

  _text(type) {
    const { TypeFlags } = this.ts;
    if (type.isUnion()) {
      const each = new Set(type.types.map((one) => this._text(one)));
      return each.size === 1 ? [...each][0] : 'maybe';
    }
    if (type.flags & (TypeFlags.Any | TypeFlags.Unknown | TypeFlags.TypeParameter)) return 'maybe';
    return type.flags & TypeFlags.StringLike ? 'only' : 'never';
  }

  _present(type) {
    return this.checker.getNonNullableType(type);
  }

  _awaited(type) {
    return this.checker.getAwaitedType(type) ?? type;
  }

  // Of a type that is an object which the package itself describes, else null.
  _options(type, holder, depth) {
    if (type.isUnion() || !(type.flags & (this.ts.TypeFlags.Object | this.ts.TypeFlags.Intersection))) return null;
    if (type.isClass() || this.checker.isArrayType(type) || type.getCallSignatures().length) return null;
    const properties = type.getProperties();
    if (!properties.length || !properties.every((each) => this._isOurs(each))) return null;
    return properties.map((each) => ({
      name: each.getName(),
      shared: this._shared(each, holder),
      options: depth > 1 ? null : this._options(this._present(this.checker.getTypeOfSymbol(each)), holder, depth + 1),
    }));
  }

  _shared(property, holder) {
    const declaredIn = property.declarations[0].parent?.name?.text;
    if (SHARED.includes(declaredIn)) return declaredIn;
    const [from, as] = BY_COMMANDS[holder] ?? [];
    return declaredIn === from ? (as ?? null) : null;
  }

  // Of a result against those of all overloads.
  unlike(value, { returns, member }) {
    const each = returns.map((type) => this.mismatches(value, type, member));
    return each.some((found) => found.length === 0) ? [] : each[0];
  }

  // What of a value is not as its type says, as paths with a reason. Types that are not looked into hold always.
  mismatches(value, type, path, depth = 0) {
    const { TypeFlags } = this.ts;
    if (type.isUnion()) {
      const each = type.types.map((one) => this.mismatches(value, one, path, depth));
      return each.some((found) => found.length === 0) ? [] : each.at(-1);
    }
    const kind = KINDS.find(([flag]) => type.flags & TypeFlags[flag])?.[1];
    if (kind !== undefined) {
      const literal = type.isLiteral() && type.value !== value;
      return typeof value === kind && !literal
        ? []
        : [`${path}: ${kindOf(value)}, not ${this.checker.typeToString(type)}`];
    }
    if (type.flags & TypeFlags.Null) return value === null ? [] : [`${path}: not null`];
    if (!(type.flags & (TypeFlags.Object | TypeFlags.Intersection)) || depth > DEPTH) return [];
    return this._objectMismatches(value, type, path, depth);
  }

  _objectMismatches(value, type, path, depth) {
    const inner = (one, of, where) => this.mismatches(one, of, where, depth + 1);
    if (this.checker.isArrayType(type)) {
      const [item] = this.checker.getTypeArguments(type);
      return Array.isArray(value) ? value.flatMap((each) => inner(each, item, `${path}[]`)) : [`${path}: no list`];
    }
    if (value === null || typeof value !== 'object')
      return type.getCallSignatures().length ? [] : [`${path}: ${kindOf(value)}, no object`];
    const name = type.symbol?.getName();
    if (name === 'Date') return value instanceof Date && !Number.isNaN(value.getTime()) ? [] : [`${path}: no date`];
    const described = this._options(type, null, 2) !== null;
    const fields = described ? type.getProperties() : [];
    const index = type.getStringIndexType();
    return [
      ...fields.flatMap((field) =>
        field.flags & this.ts.SymbolFlags.Optional && value[field.getName()] === undefined
          ? []
          : inner(value[field.getName()], this.checker.getTypeOfSymbol(field), `${path}.${field.getName()}`),
      ),
      ...(index ? Object.entries(value).flatMap(([key, each]) => inner(each, index, `${path}.${key}`)) : []),
    ];
  }
}

const KINDS = [
  ['StringLike', 'string'],
  ['NumberLike', 'number'],
  ['BooleanLike', 'boolean'],
  ['Undefined', 'undefined'],
];

// Never the value itself: it may be long.
const kindOf = (value) => value?.constructor?.name ?? String(value);
