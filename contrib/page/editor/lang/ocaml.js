import { StreamLanguage } from "@codemirror/language";
import { oCaml } from "@codemirror/legacy-modes/mode/mllike";

export default () => StreamLanguage.define(oCaml);
