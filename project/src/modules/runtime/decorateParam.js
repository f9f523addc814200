// Makes a decorator of a parameter one of its method.

export default function decorateParam(index, decorator) {
  return (target, key) => decorator(target, key, index);
}
