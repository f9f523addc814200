export class Helper {}
export const helpers = [function named() {}, () => {}, class Inner {}];
export default class {}
