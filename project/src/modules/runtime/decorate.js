// Applies decorators in the order of TypeScript: from the last to the first.

export default function decorate(decorators, target, key, descriptor) {
  const isClass = arguments.length < 3;
  let value = isClass ? target : descriptor === null ? Object.getOwnPropertyDescriptor(target, key) : descriptor;
  for (let i = decorators.length - 1; i >= 0; i--) {
    const decorator = decorators[i];
    if (!decorator) continue;
    value = (isClass ? decorator(value) : arguments.length > 3 ? decorator(target, key, value) : decorator(target, key)) || value;
  }
  if (!isClass && arguments.length > 3 && value) Object.defineProperty(target, key, value);
  return value;
}
