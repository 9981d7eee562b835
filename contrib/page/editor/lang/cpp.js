export { cpp as default } from "@codemirror/lang-cpp";
