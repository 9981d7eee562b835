import { StreamLanguage } from "@codemirror/language";
import { fortran } from "@codemirror/legacy-modes/mode/fortran";

export default () => StreamLanguage.define(fortran);
