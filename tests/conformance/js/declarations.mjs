// What the package declares: its .d.ts as data. Enough of TypeScript for bundled declarations, where every block
// begins and ends in the first column; what cannot be read is an error, so nothing is missed silently.

const OPEN = '([{<';
const CLOSE = ')]}>';

export function parse(source) {
  const found = { classes: {}, interfaces: {}, functions: {} };
  for (const { kind, name, parent, body } of blocks(plain(source))) {
    if (kind === 'class') found.classes[name] = { parent, members: members(body) };
    if (kind === 'interface') found.interfaces[name] = { parent, fields: fields(body) };
    if (kind === 'function') found.functions[name] = parameters(body);
  }
  return found;
}

// `{ name: { type, optional } }` of a type that is an object, else null.
export function fieldsOf(type, interfaces) {
  const bare = type.replace(/\s*\|\s*undefined$/, '').trim();
  if (bare.startsWith('{') && bare.endsWith('}')) return fields(bare.slice(1, -1));
  const omitted = bare.match(/^Omit<(\w+),\s*(.+)>$/);
  if (omitted) {
    const left = { ...fieldsOf(omitted[1], interfaces) };
    for (const quoted of omitted[2].matchAll(/'(\w+)'/g)) delete left[quoted[1]];
    return left;
  }
  const known = interfaces[bare];
  return known ? { ...(known.parent ? fieldsOf(known.parent, interfaces) : {}), ...known.fields } : null;
}

// What of a value is not as its type says, as paths with a reason. Types that are not looked into hold always.
export function mismatches(value, type, interfaces, path = '') {
  const alternatives = split(type, '|');
  if (alternatives.length > 1) {
    const each = alternatives.map((one) => mismatches(value, one, interfaces, path));
    return each.some((found) => found.length === 0) ? [] : each[0];
  }
  const bare = alternatives[0];
  if (['string', 'number', 'boolean', 'undefined'].includes(bare))
    return typeof value === bare ? [] : [`${path}: ${typeof value}, not ${bare}`];
  if (bare === 'null') return value === null ? [] : [`${path}: not null`];
  const list = bare.match(/^(\w+|\{[\s\S]*\})\[\]$/) ?? bare.match(/^Array<([\s\S]+)>$/);
  if (list)
    return Array.isArray(value)
      ? value.flatMap((item) => mismatches(item, list[1], interfaces, `${path}[]`))
      : [`${path}: no list`];
  const members = Object.entries(fieldsOf(bare, interfaces) ?? {});
  if (members.length && (value === null || typeof value !== 'object')) return [`${path}: ${value}, no object`];
  return members.flatMap(([name, about]) =>
    about.optional && (value[name] === undefined || value[name] === null)
      ? []
      : mismatches(value[name], about.type, interfaces, `${path}.${name}`),
  );
}

// Without comments; `=>` in one character, so that the brackets are only brackets.
function plain(source) {
  return source
    .replace(/\/\*[\s\S]*?\*\//g, '')
    .replace(/^\s*\/\/.*$/gm, '')
    .replaceAll('=>', '⇒');
}

function* blocks(source) {
  const head =
    /^(?:export )?(?:declare )?(class|interface) (\w+)(?:<[^{]*>)?(?: extends (\w+))?(?: implements [\w, ]+)? \{\n([\s\S]*?)^\}/gm;
  for (const [, kind, name, parent, body] of source.matchAll(head)) yield { kind, name, parent, body };
  for (const [, name, body] of source.matchAll(/^declare function (\w+)\((.*)\): .+;$/gm))
    yield { kind: 'function', name, body };
}

function split(text, separator) {
  const parts = [];
  let depth = 0;
  let part = '';
  for (const character of text) {
    if (OPEN.includes(character)) depth += 1;
    if (CLOSE.includes(character)) depth -= 1;
    if (character === separator && depth === 0) {
      parts.push(part);
      part = '';
    } else part += character;
  }
  parts.push(part);
  return parts.map((each) => each.trim()).filter(Boolean);
}

function members(body) {
  const found = {};
  for (const line of split(body, ';')) {
    const method = line.match(
      /^((?:private |protected |static |get |async )*)(\w+)(?:<[^(]*>)?\(([\s\S]*)\)(?:: ([\s\S]*))?$/,
    );
    const field = line.match(/^((?:private |protected |static |readonly )*)(\w+)\??(?::[\s\S]*)?$/);
    const [, modifiers, name] = method ?? field ?? fail(line);
    found[name] = {
      hidden: /private|protected/.test(modifiers),
      own: !method
        ? 'field'
        : modifiers.includes('get ')
          ? 'getter'
          : modifiers.includes('static ')
            ? 'static'
            : 'method',
      parameters: method ? parameters(method[3]) : [],
      returns: method?.[4],
    };
  }
  return found;
}

function parameters(text) {
  return split(text, ',').map((each) => {
    const [, name, type] = each.match(/^(?:\.\.\.)?(\w+)\??: ([\s\S]+)$/) ?? fail(each);
    return { name, type };
  });
}

function fields(body) {
  const found = split(body, ';').map((each) => each.match(/^(?:readonly )?(\w+)(\??): ([\s\S]+)$/) ?? fail(each));
  return Object.fromEntries(found.map(([, name, mark, type]) => [name, { type, optional: mark === '?' }]));
}

function fail(text) {
  throw new Error(`cannot read this declaration: ${text}`);
}
