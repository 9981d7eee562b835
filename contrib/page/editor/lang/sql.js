import { StreamLanguage } from "@codemirror/language";
import { sqlite } from "@codemirror/legacy-modes/mode/sql";

export default () => StreamLanguage.define(sqlite);
