import{a as e}from"../part-ZOJIP2QO.js";import{va as r}from"../part-45VXAKZ5.js";var o=()=>r.define(e);export{o as default};
