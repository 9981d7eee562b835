import { StreamLanguage } from "@codemirror/language";
import { commonLisp } from "@codemirror/legacy-modes/mode/commonlisp";

export default () => StreamLanguage.define(commonLisp);
