// Writes dist/shapes/shapes.json from the types in roots.ts, as the SDK's declaration files have them.
import { writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import type { Shape, Shapes } from './shape.js';

const here = dirname(fileURLToPath(import.meta.url));
const source = join(here, '../../src/shapes/roots.ts');
const program = ts.createProgram([source], {
  strict: true,
  exactOptionalPropertyTypes: true,
  module: ts.ModuleKind.NodeNext,
  moduleResolution: ts.ModuleResolutionKind.NodeNext,
  target: ts.ScriptTarget.ES2022,
  skipLibCheck: true,
  types: ['node'],
});
const checker = program.getTypeChecker();
const named: Record<string, Shape> = {};
const names = new Map<ts.Type, string>();

function shape(type: ts.Type): Shape {
  const flags = type.flags;
  if (flags & (ts.TypeFlags.Any | ts.TypeFlags.Unknown)) return { any: true };
  if (flags & ts.TypeFlags.StringLiteral) return { literal: (type as ts.StringLiteralType).value };
  if (flags & ts.TypeFlags.NumberLiteral) return { literal: (type as ts.NumberLiteralType).value };
  if (flags & ts.TypeFlags.BooleanLiteral) return { literal: checker.typeToString(type) === 'true' };
  if (flags & ts.TypeFlags.String) return { kind: 'string' };
  if (flags & ts.TypeFlags.Number) return { kind: 'number' };
  if (flags & ts.TypeFlags.Null) return { kind: 'null' };
  if (flags & ts.TypeFlags.NonPrimitive) return { kind: 'object' };
  if (type.isUnion()) {
    // JSON has no `undefined`: an optional property is left out.
    const members = type.types.filter((t) => !(t.flags & ts.TypeFlags.Undefined));
    return members.length === 1 ? shape(members[0]!) : { union: members.map(shape) };
  }
  // `string & {}`, with which the SDK keeps an enumeration open.
  if (type.isIntersection() && type.types.some((t) => t.flags & ts.TypeFlags.String)) return { kind: 'string' };
  if (checker.isArrayType(type)) return { list: shape(checker.getTypeArguments(type as ts.TypeReference)[0]!) };
  const known = names.get(type);
  if (known) return { ref: known };
  const name = `${type.symbol?.name ?? 'type'}#${names.size}`;
  names.set(type, name);
  named[name] = object(type);
  return { ref: name };
}

function object(type: ts.Type): Shape {
  const index = type.getStringIndexType();
  const properties = checker.getPropertiesOfType(type);
  if (index) return properties.length === 0 ? { map: shape(index) } : { kind: 'object' };
  const fields: Record<string, { shape: Shape; optional: boolean }> = {};
  for (const property of properties) {
    const optional = (property.flags & ts.SymbolFlags.Optional) !== 0;
    fields[property.name] = { shape: shape(checker.getTypeOfSymbol(property)), optional };
  }
  return { fields };
}

const file = program.getSourceFile(source);
if (!file) throw new Error(`cannot read ${source}`);
const bad = ts.getPreEmitDiagnostics(program, file);
if (bad.length) throw new Error(ts.formatDiagnostics(bad, { getCanonicalFileName: (f) => f, getCurrentDirectory: () => here, getNewLine: () => '\n' }));
const roots: Record<string, Shape> = {};
for (const statement of file.statements) {
  if (!ts.isInterfaceDeclaration(statement) || statement.name.text !== 'Roots') continue;
  for (const property of checker.getPropertiesOfType(checker.getTypeAtLocation(statement))) {
    roots[property.name] = shape(checker.getTypeOfSymbol(property));
  }
}
const shapes: Shapes = { roots, named };
writeFileSync(join(here, 'shapes.json'), JSON.stringify(shapes));
console.log(`shapes: ${Object.keys(roots).length} responses, ${Object.keys(named).length} types`);
