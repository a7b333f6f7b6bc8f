// A small description of a JSON value, made from a TypeScript type.
export type Shape =
  | { any: true }
  | { kind: 'string' | 'number' | 'boolean' | 'null' | 'object' }
  | { literal: string | number | boolean }
  | { list: Shape }
  | { map: Shape }
  | { union: Shape[] }
  | { ref: string }
  | { fields: Record<string, { shape: Shape; optional: boolean }> };

export interface Shapes {
  roots: Record<string, Shape>;
  named: Record<string, Shape>;
}

/** What is wrong with the value, or nothing. Keys the type does not have count as wrong. */
export function problems(shapes: Shapes, shape: Shape, value: unknown, path = '$'): string[] {
  if ('any' in shape) return [];
  if ('ref' in shape) return problems(shapes, shapes.named[shape.ref]!, value, path);
  if ('literal' in shape) return value === shape.literal ? [] : [`${path}: ${JSON.stringify(value)} is not ${shape.literal}`];
  if ('kind' in shape) {
    const kind = value === null ? 'null' : typeof value;
    return kind === shape.kind ? [] : [`${path}: ${kind} instead of ${shape.kind}`];
  }
  if ('union' in shape) return ofUnion(shapes, shape.union, value, path);
  if ('list' in shape) {
    if (!Array.isArray(value)) return [`${path}: no list`];
    return value.flatMap((item, i) => problems(shapes, shape.list, item, `${path}[${i}]`));
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return [`${path}: no object`];
  if ('map' in shape) {
    return Object.entries(value).flatMap(([key, item]) => problems(shapes, shape.map, item, `${path}.${key}`));
  }
  const found: string[] = [];
  for (const [name, field] of Object.entries(shape.fields)) {
    if (name in value) {
      found.push(...problems(shapes, field.shape, (value as Record<string, unknown>)[name], `${path}.${name}`));
    } else if (!field.optional) {
      found.push(`${path}.${name}: missing`);
    }
  }
  for (const name of Object.keys(value)) {
    if (!(name in shape.fields)) found.push(`${path}.${name}: unknown to the SDK`);
  }
  return found;
}

function ofUnion(shapes: Shapes, members: Shape[], value: unknown, path: string): string[] {
  let best: string[] | undefined;
  for (const member of members) {
    const found = problems(shapes, member, value, path);
    if (found.length === 0) return [];
    // The member that was meant is the one whose `type` fits; its problems are worth reporting.
    const meant = !found.some((p) => p.startsWith(`${path}.type:`)) && !found.some((p) => p.startsWith(`${path}:`));
    if (best === undefined || meant) best = found;
  }
  return best ?? [`${path}: fits no member`];
}
