/** A greeting for somebody. */
export function greet(greeting: string, name: string): string {
  return `${greeting}, ${name}!`;
}
