import{d as e}from"../part-ZOJIP2QO.js";import{va as r}from"../part-45VXAKZ5.js";var m=()=>r.define(e);export{m as default};
